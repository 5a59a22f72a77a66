// The Poisson-Normal mixture of every guide: EM from fixed starts, then Newton to stationarity. With y = log2(count):
//
//   loss(u) = -log prod over cells of [ w Normal(y; mean, std) + (1 - w) rate^y e^-rate / Gamma(y + 1) ] - log priors
//   u = (log rate, mean, log std, logit w)
//
// With z = (y - mean) / std and r = P(Normal | y) all derivatives follow from moments of z: those of order 0 to 2
// under the weights cells * r, and of order 0 to 4 under cells * r * (1 - r).
// Layout. The distinct counts (bins) of all guides, one guide after another, from offsets[guide] on: y,
// log Gamma(y + 1) and the number of cells, float64. A start leaves a Record; guide k of a launch has STARTS of them.
// Thread map. `search`: a team of LANES lanes takes one start of one guide, its lanes the bins; all else every lane
// computes alike. `choose`: a thread takes a guide and goes through its starts one after another as a CPU does: a start
// that leads to a maximum known by then is dropped, here after the fact.
typedef long long i64;

#ifndef LANES
#define LANES 8
#endif
#define STARTS 36  // most windows of PARTS_OF_FEW parts: 8 * 9 / 2
#define EM_STEPS 5
#define MANY_VALUES 40
#define FEW_VALUES 7  // 7 * 8 / 2 windows and 7 wide starts
#define WIDE 1.5  // log std
#define PARTS_OF_FEW 8
#define PARTS_OF_MANY 6
#define MAX_POINTS 16
#define HALF_LOG_2PI 0.9189385332046727

// How the polishing of a start ended; UNUSED: there is no such start.
#define UNUSED -1
#define STATIONARY 0
#define AT_BOUND 1
#define UNFINISHED 2

// FitStatus of the contract.
#define FITTED 0
#define NO_MAXIMUM 3
#define NOT_CONVERGED 4

struct Point {
  double u[4];
};

struct Record {
  Point way[EM_STEPS + 1];  // after 0, 1, ... EM steps
  double way_loss[EM_STEPS + 1];
  Point end_point;
  double end_loss;
  double hessian[4][4];  // where STATIONARY
  int em_steps, newton_steps, end, padding;
};
static_assert(sizeof(Record) == 424, "mixture_fit.py allocates records");

struct Guide {
  const double *y, *log_gamma, *cells;
  int n_bins;
  double n, total;  // cells, and the sum of y over them
};

struct Moments {
  double r0, r1, r2, v0, v1, v2, v3, v4;
};

// The open box of the estimate, in u: outside, the joint is unbounded or has spikes on single counts.
__device__ __forceinline__ double lower(int i) {
  return i == 0 ? -9.210340371976182 : i == 1 ? -5.0 : i == 2 ? -2.995732273553991 : -6.906754778648554;
}
__device__ __forceinline__ double upper(int i) {
  return i == 0 ? 3.912023005428146 : i == 1 ? 20.0 : i == 2 ? 3.912023005428146 : 6.906754778648554;
}
__device__ __forceinline__ double clip(double x, int i) { return fmin(fmax(x, lower(i)), upper(i)); }

// Every lane of the team gets the same bits: the compiler may not merge this addition with a product of one lane.
__device__ __forceinline__ double team_sum(double x) {
#if LANES > 1
  const unsigned team = ((LANES < 32 ? 1u << (LANES & 31) : 0u) - 1u) << ((threadIdx.x & 31) & ~(LANES - 1));
#pragma unroll
  for (int step = LANES / 2; step > 0; step >>= 1) x = __dadd_rn(x, __shfl_xor_sync(team, x, step));
#endif
  return x;
}

// Fill the moments at u and return the loss there.
__device__ double loss_at(const Guide& guide, const Point& at, Moments& m) {
  const double log_rate = at.u[0], mean = at.u[1], log_std = at.u[2], logit = at.u[3];
  const double inverse_std = exp(-log_std);
  const double log_normal = -log1p(exp(-logit));
  const double log_poisson = log_normal - logit;
  const double normal_constant = log_normal - HALF_LOG_2PI - log_std;
  const double poisson_constant = log_poisson - exp(log_rate);
  Moments s = {};
  double likelihood = 0.0;
  for (int i = threadIdx.x % LANES; i < guide.n_bins; i += LANES) {
    const double y = guide.y[i], cells = guide.cells[i];
    const double z = (y - mean) * inverse_std;
    const double poisson = poisson_constant + y * log_rate - guide.log_gamma[i];
    const double normal = normal_constant - 0.5 * z * z;
    const double small = exp(-fabs(normal - poisson));
    const double share = 1.0 / (1.0 + small);
    likelihood += cells * (fmax(normal, poisson) + log1p(small));
    double weight = cells * (normal > poisson ? share : small * share);
    s.r0 += weight;
    weight *= z;
    s.r1 += weight;
    s.r2 += weight * z;
    weight = cells * small * share * share;
    s.v0 += weight;
    weight *= z;
    s.v1 += weight;
    weight *= z;
    s.v2 += weight;
    weight *= z;
    s.v3 += weight;
    s.v4 += weight * z;
  }
  m = {team_sum(s.r0), team_sum(s.r1), team_sum(s.r2), team_sum(s.v0),
       team_sum(s.v1), team_sum(s.v2), team_sum(s.v3), team_sum(s.v4)};
  double prior = -0.1 * log_poisson - 0.9 * log_normal - 0.125 * (mean - 3.0) * (mean - 3.0);
  prior -= log_std + 0.5 * (log_std - 2.0) * (log_std - 2.0) + log_rate + 0.5 * log_rate * log_rate;
  return -(team_sum(likelihood) + prior);
}

// Solve n_poisson * e^l + l = sum_poisson - 1 for l: convex and rising, so Newton from the right is safe.
__device__ double best_log_rate(double n_poisson, double sum_poisson) {
  double log_rate = fmax(log(fmax(sum_poisson, 1e-300) / fmax(n_poisson, 1e-300)), -1.0);
  for (int k = 0; k < 60; ++k) {
    const double rate = n_poisson * exp(log_rate);
    const double step = (rate + log_rate - sum_poisson + 1.0) / (rate + 1.0);
    log_rate -= step;
    if (fabs(step) < 1e-12) break;
  }
  return log_rate;
}

// Solve squares * e^(-2s) - s = n_normal - 1 for s: convex and falling, so Newton from the left is safe.
__device__ double best_log_std(double n_normal, double squares) {
  double log_std = lower(2);
  if (squares * exp(-2.0 * log_std) <= n_normal - 1.0 + log_std) return log_std;  // the solution is outside the box
  log_std = fmax(fmin(0.5 * log(squares / (n_normal + 1.0)), 2.0), log_std);
  for (int k = 0; k < 60; ++k) {
    const double spread = squares * exp(-2.0 * log_std);
    const double step = (spread - log_std - n_normal + 1.0) / (2.0 * spread + 1.0);
    log_std += step;
    if (fabs(step) < 1e-12) break;
  }
  return log_std;
}

// Raise the expected joint given the responsibilities at u: rate and weight exactly, mean given std, std given mean.
__device__ Point em_step(const Guide& guide, const Point& at, const Moments& m) {
  const double mean = at.u[1], std = exp(at.u[2]);
  const double n_normal = fmin(m.r0, guide.n);
  const double sum_normal = mean * m.r0 + std * m.r1;
  Point next;
  next.u[0] = best_log_rate(guide.n - n_normal, fmax(guide.total - sum_normal, 0.0));
  const double precision = 1.0 / (std * std);
  next.u[1] = clip((sum_normal * precision + 0.75) / (n_normal * precision + 0.25), 1);
  const double shift = (next.u[1] - mean) / std;
  const double squares = fmax(m.r2 - 2.0 * shift * m.r1 + shift * shift * m.r0, 0.0) / precision;
  next.u[2] = best_log_std(n_normal, squares);
  // Dirichlet(0.9, 0.1): a component that hardly any cell supports has no interior weight.
  const double normal = n_normal - 0.9, poisson = guide.n - n_normal - 0.1;
  next.u[3] = normal <= 0.0 ? lower(3) : poisson <= 0.0 ? upper(3) : log(normal / poisson);
#pragma unroll
  for (int i = 0; i < 4; ++i) next.u[i] = clip(next.u[i], i);
  return next;
}

// Gradient and Hessian of the loss at u from the moments there.
__device__ void derivatives(const Guide& guide, const Point& at, const Moments& m, double (&gradient)[4],
                            double (&hessian)[4][4]) {
  const double n = guide.n, rate = exp(at.u[0]), mean = at.u[1], std = exp(at.u[2]);
  const double weight = 1.0 / (1.0 + exp(-at.u[3]));
  gradient[0] = rate * (n - m.r0) - (guide.total - mean * m.r0 - std * m.r1) + 1.0 + at.u[0];
  gradient[1] = (mean - 3.0) / 4.0 - m.r1 / std;
  gradient[2] = m.r0 - m.r2 + 1.0 + (at.u[2] - 2.0);
  gradient[3] = n * weight - m.r0 - 0.1 * weight + 0.9 * (1.0 - weight);
  const double gap = rate - mean;  // rate - y = gap - std * z
  hessian[0][0] = rate * (n - m.r0) - (gap * gap * m.v0 - 2.0 * gap * std * m.v1 + std * std * m.v2) + 1.0;
  hessian[0][1] = m.v2 - gap * m.v1 / std;
  hessian[0][2] = std * (m.v3 - m.v1) - gap * (m.v2 - m.v0);
  hessian[0][3] = std * m.v1 - gap * m.v0;
  hessian[1][1] = (m.r0 - m.v2) / (std * std) + 0.25;
  hessian[1][2] = (2.0 * m.r1 - m.v3 + m.v1) / std;
  hessian[1][3] = -m.v1 / std;
  hessian[2][2] = 2.0 * m.r2 - (m.v4 - 2.0 * m.v2 + m.v0) + 1.0;
  hessian[2][3] = m.v0 - m.v2;
  hessian[3][3] = (n - 1.0) * weight * (1.0 - weight) - m.v0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < i; ++j) hessian[i][j] = hessian[j][i];
}

// step = -(hessian + damping * I)^-1 gradient by Cholesky; false where that is not positive definite.
__device__ bool solve_damped(const double (&hessian)[4][4], const double (&gradient)[4], double damping,
                             double (&step)[4]) {
  double factor[4][4];
  bool positive = true;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      double value = hessian[i][j] + (i == j ? damping : 0.0);
#pragma unroll
      for (int k = 0; k < j; ++k) value -= factor[i][k] * factor[j][k];
      if (i > j) {
        factor[i][j] = value / factor[j][j];
      } else {
        positive = positive && value > 1e-10;
        factor[i][i] = sqrt(fmax(value, 1e-10));
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    double value = -gradient[i];
#pragma unroll
    for (int k = 0; k < i; ++k) value -= factor[i][k] * step[k];
    step[i] = value / factor[i][i];
  }
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    double value = step[i];
#pragma unroll
    for (int k = i + 1; k < 4; ++k) value -= factor[k][i] * step[k];
    step[i] = value / factor[i][i];
  }
  return positive;
}

// Take coordinates that descent would push out of the box out of the problem; say whether there are any.
__device__ bool hold_bounds(const Point& at, double (&gradient)[4], double (&hessian)[4][4]) {
  bool at_bound = false;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if ((at.u[i] <= lower(i) && gradient[i] > 0.0) || (at.u[i] >= upper(i) && gradient[i] < 0.0)) {
      at_bound = true;
      gradient[i] = 0.0;
#pragma unroll
      for (int j = 0; j < 4; ++j) hessian[i][j] = hessian[j][i] = i == j ? 1.0 : 0.0;
    }
  }
  return at_bound;
}

// Move u downhill by damped Newton steps in the closed box, until the loss can fall no further. Returns STATIONARY for
// an interior minimum of the loss, AT_BOUND for a minimum on the bounds, UNFINISHED when the steps were used up.
//   loss, moments   those at u, before and after
__device__ int polish(const Guide& guide, int max_steps, Point& at, double& loss, Moments& moments, int& n_steps) {
  double gradient[4], hessian[4][4], step[4];
  double damping = 0.0, largest = 1.0;
  bool at_bound = false, moved = true;
  n_steps = 0;
  while (n_steps < max_steps && damping < 1e12 * largest) {
    bool trusted = false, solved = false;
    double decrement = 0.0;
    if (moved) {
      derivatives(guide, at, moments, gradient, hessian);
      at_bound = hold_bounds(at, gradient, hessian);
      largest = 0.0;
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) largest = fmax(largest, fabs(hessian[i][j]));
      if (solve_damped(hessian, gradient, 0.0, step)) {
#pragma unroll
        for (int i = 0; i < 4; ++i) decrement -= step[i] * gradient[i];
        // What is left to gain drowns in the rounding of the loss: trust the full step.
        trusted = solved = decrement < 1e-9 * (1.0 + fabs(loss));
      }
    }
    double scale = 1.0;
    if (!trusted) {
      solved = solve_damped(hessian, gradient, damping, step);
      double longest = 0.0;
#pragma unroll
      for (int i = 0; i < 4; ++i) longest = fmax(longest, fabs(step[i]));
      scale = fmin(1.0, 1.0 / longest);
    }
    moved = trusted;
    if (solved) {  // one place for the loss, so that teams of a warp that differ until here compute it together
      Point trial;
#pragma unroll
      for (int i = 0; i < 4; ++i) trial.u[i] = clip(at.u[i] + scale * step[i], i);
      Moments there;
      const double trial_loss = loss_at(guide, trial, there);
      ++n_steps;
      if (trusted || trial_loss < loss) {
        moved = true;
        at = trial;
        loss = trial_loss;
        moments = there;
      }
    }
    if (trusted) {
      if (decrement < 1e-13 * (1.0 + fabs(loss))) return at_bound ? AT_BOUND : STATIONARY;
    } else if (moved) {
      damping = damping > 1e-4 * largest ? damping * 0.1 : 0.0;
    } else {
      damping = fmax(4.0 * damping, 1e-3 * largest);
    }
  }
  return UNFINISHED;
}

// The bins of start number `start`: those of one window of the range of y, which begin at edges that cut it into equal
// parts. Windows go from the top down; where there are many distinct counts, windows of low counts alone are left out.
// Where there are few, the windows that end with the largest count come again, for starts from a wide Normal: narrow
// ones end on the spikes of single counts.
__device__ bool window(const Guide& guide, int start, int& first, int& stop, bool& is_wide) {
  const int n_parts = guide.n_bins > MANY_VALUES ? PARTS_OF_MANY : PARTS_OF_FEW;
  const double lowest = guide.y[0], range = guide.y[guide.n_bins - 1] - lowest;
  int edges[PARTS_OF_FEW + 1], last = 0;
  for (int k = 0; k < n_parts; ++k) {
    const double edge = lowest + range * k / n_parts;
    int low = 0, high = guide.n_bins;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (guide.y[middle] < edge) low = middle + 1;
      else high = middle;
    }
    if (last == 0 || low > edges[last - 1]) edges[last++] = low;
  }
  edges[last] = guide.n_bins;
  for (int to = last; to > 0; --to) {
    const int from = to < last && guide.n_bins > MANY_VALUES ? 1 : 0;
    const int n_windows = max(to - from, 0);
    if (start < n_windows) {
      first = edges[from + start];
      stop = edges[to];
      return true;
    }
    start -= n_windows;
  }
  is_wide = guide.n_bins <= FEW_VALUES && start < last;
  if (!is_wide) return false;
  first = edges[start];
  stop = edges[last];
  return true;
}

//   guides    (n_guides,): the guides of this launch, all with at least two cells and a count above 1
//   records   (n_guides, STARTS)
extern "C" __global__ void __launch_bounds__(128)
search(const double* __restrict__ y, const double* __restrict__ log_gamma, const double* __restrict__ cells,
       const i64* __restrict__ offsets, const double* __restrict__ n, const double* __restrict__ total,
       const int* __restrict__ guides, i64 n_guides, int max_iter, double tol, Record* __restrict__ records) {
  const i64 task = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
  if (task >= n_guides * STARTS) return;
  const int number = guides[task / STARTS];
  const i64 begin = offsets[number];
  const Guide guide = {y + begin,       log_gamma + begin, cells + begin, (int)(offsets[number + 1] - begin),
                       n[number], total[number]};
  Record& record = records[task];
  const bool writes = threadIdx.x % LANES == 0;
  int first, stop;
  bool is_wide = false;
  if (!window(guide, (int)(task % STARTS), first, stop, is_wide)) {
    if (writes) record.end = UNUSED;
    return;
  }

  Moments moments = {};
  for (int i = first + threadIdx.x % LANES; i < stop; i += LANES) {
    moments.r0 += guide.cells[i];
    moments.r1 += guide.cells[i] * guide.y[i];
    moments.r2 += guide.cells[i] * guide.y[i] * guide.y[i];
  }
  moments = {team_sum(moments.r0), team_sum(moments.r1), team_sum(moments.r2)};
  Point at = em_step(guide, Point{}, moments);
  if (is_wide) at.u[2] = WIDE;

  const int most_steps = min(EM_STEPS, max_iter);
  double loss, change = 1e300;
  int n_em = 0;
  for (;; ++n_em) {
    loss = loss_at(guide, at, moments);
    if (writes) {
      record.way[n_em] = at;
      record.way_loss[n_em] = loss;
    }
    if (change <= tol || n_em == most_steps) break;
    const Point next = em_step(guide, at, moments);
    change = 0.0;
#pragma unroll
    for (int i = 0; i < 4; ++i) change = fmax(change, fabs(next.u[i] - at.u[i]));
    at = next;
  }

  int n_newton;
  const int end = polish(guide, max_iter - n_em, at, loss, moments, n_newton);
  if (!writes) return;
  record.end_point = at;
  record.end_loss = loss;
  record.em_steps = n_em;
  record.newton_steps = n_newton;
  record.end = end;
  double gradient[4], hessian[4][4];
  derivatives(guide, at, moments, gradient, hessian);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) record.hessian[i][j] = hessian[i][j];
}

// Whether a point lies where the quadratic around a stationary point describes the loss: Newton would go there.
__device__ bool leads_to(const Point& at, double loss, const Record& known) {
  double rise = 0.0, distance = 0.0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const double shift = at.u[i] - known.end_point.u[i];
    distance = fmax(distance, fabs(shift));
#pragma unroll
    for (int j = 0; j < 4; ++j) rise += 0.5 * shift * known.hessian[i][j] * (at.u[j] - known.end_point.u[j]);
  }
  return distance < 0.5 && fabs(loss - known.end_loss - rise) < 0.2 * rise + 1e-9 * (1.0 + fabs(loss));
}

__device__ bool leads_to_known(const Record& record, const Record* records, const int* known, int n_known) {
  for (int step = 0; step <= record.em_steps; ++step)
    for (int k = 0; k < n_known; ++k)
      if (leads_to(record.way[step], record.way_loss[step], records[known[k]])) return true;
  return false;
}

// The highest interior maximum with mean > rate of each guide.
//   parameters   (n_guides, 4): u;  losses, iterations, statuses (n_guides,), in the order of `guides`
extern "C" __global__ void choose(const Record* __restrict__ all_records, i64 n_guides, double* __restrict__ parameters,
                                  double* __restrict__ losses, i64* __restrict__ iterations,
                                  i64* __restrict__ statuses) {
  const i64 guide = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (guide >= n_guides) return;
  const Record* records = all_records + guide * STARTS;
  int known[MAX_POINTS], n_known = 0, best = -1;
  bool unfinished = false;
  for (int start = 0; start < STARTS; ++start) {
    const Record& record = records[start];
    if (record.end == UNUSED || leads_to_known(record, records, known, n_known)) continue;
    if (record.end == UNFINISHED) unfinished = true;
    if (record.end != STATIONARY) continue;
    if (n_known < MAX_POINTS) known[n_known++] = start;
    if (record.end_point.u[1] > exp(record.end_point.u[0]) &&
        (best < 0 || record.end_loss < records[best].end_loss))
      best = start;
  }
  statuses[guide] = best >= 0 ? FITTED : unfinished ? NOT_CONVERGED : NO_MAXIMUM;
  if (best < 0) return;
  for (int i = 0; i < 4; ++i) parameters[guide * 4 + i] = records[best].end_point.u[i];
  losses[guide] = records[best].end_loss;
  iterations[guide] = records[best].em_steps + records[best].newton_steps;
}

// y, log Gamma(y + 1) and cells of each bin. A thread takes a bin.
extern "C" __global__ void describe_bins(const i64* __restrict__ values, const i64* __restrict__ multiplicities,
                                         i64 n_bins, double* __restrict__ y, double* __restrict__ log_gamma,
                                         double* __restrict__ cells) {
  const i64 bin = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (bin >= n_bins) return;
  y[bin] = log2((double)values[bin]);
  log_gamma[bin] = lgamma(y[bin] + 1.0);
  cells[bin] = (double)multiplicities[bin];
}

// Number of cells and sum of y over them, in the order of the bins. A thread takes a guide.
extern "C" __global__ void describe_guides(const double* __restrict__ y, const double* __restrict__ cells,
                                           const i64* __restrict__ offsets, i64 n_guides, double* __restrict__ n,
                                           double* __restrict__ total) {
  const i64 guide = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (guide >= n_guides) return;
  double sum = 0.0, sum_y = 0.0;
  for (i64 bin = offsets[guide]; bin < offsets[guide + 1]; ++bin) {
    sum += cells[bin];
    sum_y += cells[bin] * y[bin];
  }
  n[guide] = sum;
  total[guide] = sum_y;
}

// The smallest count 1, 2, ..., max whose log odds of the Normal exceed `log_odds`, NaN where there is none.
// A warp takes a guide, its lanes neighbouring counts.
//   parameters   (4, n_guides): rate, mean, std, weight of the Normal; NaN where not fitted
extern "C" __global__ void thresholds(const double* __restrict__ parameters, const i64* __restrict__ max_counts,
                                      i64 n_guides, double log_odds, double* __restrict__ out) {
  const i64 guide = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  if (guide >= n_guides) return;
  const int lane = threadIdx.x & 31;
  const double rate = parameters[guide], mean = parameters[n_guides + guide];
  const double std = parameters[2 * n_guides + guide], weight = parameters[3 * n_guides + guide];
  const double constant = log(weight) - HALF_LOG_2PI - log(std) - log1p(-weight) + rate;
  double found = nan("");
  for (i64 first = 1; first <= max_counts[guide] && !isnan(rate); first += 32) {
    const double y = log2((double)(first + lane)), z = (y - mean) / std;
    const bool above = first + lane <= max_counts[guide] &&
                       constant - 0.5 * z * z - y * log(rate) + lgamma(y + 1.0) > log_odds;
    const unsigned lanes = __ballot_sync(0xffffffffu, above);
    if (lanes) {
      found = (double)(first + __ffs(lanes) - 1);
      break;
    }
  }
  if (lane == 0) out[guide] = found;
}
