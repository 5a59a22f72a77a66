// The mixture along the directions of many targets: all rounds of all targets in one launch. A block takes a target.
//
//   x ~ w0 N(m0, v0) + w1 N(m1, v1);  share of component 1: e1 / (e0 + e1), e = w exp(-(x - m)^2 / 2v) / sqrt(v)
//
// A round: direction of the perturbed cells, scores, k-means for the weights, EM with the first component fixed,
// classes. Every loop over cells runs through global memory (a target's scores stay in the cache); per step of EM a
// thread sees (n_control + n_cells) / 512 of them and the block meets at two barriers. See perturbation_common.cuh for
// the layout.
#include "perturbation_common.cuh"

#define THREADS 512
#define LOG_2PI 1.8378770664093453
#define SHARE_FLOOR 2.220446049250313e-15  // added to a component's number of cells, as in scikit-learn
#define CHUNK 512  // factors of the likelihood multiplied before a logarithm is taken: each is in [1, 2]
#define LLOYD_STEPS 300
#define LLOYD_TOLERANCE 1e-4

struct Mixture {
  double weight0, weight1, mean0, variance0, mean1, variance1;
};

struct Shared {
  BlockScratch scratch;
  double totals[THREADS + 1];
  int drawn[2];  // places of the candidates for the second centre
  Mixture mixture;
  double constant0, constant1, half0, half1;
  int stop;  // 0 go on, 1 converged, 2 collapsed
};

// The order of the data: cell c of the target has controls_before[c] controls and c cells before it.
__device__ __forceinline__ int first_cell_from(const i64* before, int n_cells, i64 place) {
  int low = 0, high = n_cells;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (before[middle] + middle < place)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__device__ __forceinline__ double at_place(const double* x, const Target& target, const i64* before, i64 place) {
  const int cell = first_cell_from(before, target.n_cells, place);
  if (cell < target.n_cells && before[cell] + cell == place) return x[target.n_control + cell];
  return x[place - cell];
}

// k-means++ for two clusters: the first centre uniform, the second the better of two draws by squared distance. Each
// thread adds up a stretch of the data.
__device__ void two_centres(const double* x, const Target& target, const i64* before, const double (&draws)[3],
                            Shared& shared, double& first, double& second) {
  const i64 n = target.n(), stretch = (n + THREADS - 1) / THREADS;
  const i64 begin = min(threadIdx.x * stretch, n), end = min(begin + stretch, n);
  first = at_place(x, target, before, min((i64)(draws[0] * (double)n), n - 1));
  double running = 0.0;
  for (int look = 0; look < 2; ++look) {  // first for the totals of the stretches, then for the drawn cells
    const double level1 = draws[1] * shared.totals[THREADS], level2 = draws[2] * shared.totals[THREADS];
    int cell = first_cell_from(before, target.n_cells, begin), drawn1 = -1, drawn2 = -1;
    for (i64 place = begin; place < end; ++place) {
      const bool is_cell = cell < target.n_cells && before[cell] + cell == place;
      const double away = x[is_cell ? target.n_control + cell : place - cell] - first;
      cell += is_cell;
      running += away * away;
      if (drawn1 < 0 && running >= level1) drawn1 = (int)place;
      if (drawn2 < 0 && running >= level2) drawn2 = (int)place;
    }
    if (look == 1) {
      if (drawn1 >= 0) atomicMin(&shared.drawn[0], drawn1);
      if (drawn2 >= 0) atomicMin(&shared.drawn[1], drawn2);
      break;
    }
    shared.totals[threadIdx.x] = running;
    __syncthreads();
    if (threadIdx.x == 0) {
      double sum = 0.0;
      for (int k = 0; k < THREADS; ++k) {
        const double total = shared.totals[k];
        shared.totals[k] = sum;
        sum += total;
      }
      shared.totals[THREADS] = sum;
      shared.drawn[0] = shared.drawn[1] = (int)(n - 1);
    }
    __syncthreads();
    running = shared.totals[threadIdx.x];
  }
  __syncthreads();
  const double candidates[2] = {at_place(x, target, before, shared.drawn[0]),
                                at_place(x, target, before, shared.drawn[1])};
  double inertia[2] = {0.0, 0.0};
  for (i64 i = threadIdx.x; i < n; i += THREADS) {
    const double square = (x[i] - first) * (x[i] - first);
#pragma unroll
    for (int k = 0; k < 2; ++k) inertia[k] += fmin(square, (x[i] - candidates[k]) * (x[i] - candidates[k]));
  }
  join_block<Sum>(inertia, shared.scratch);
  second = inertia[1] < inertia[0] ? candidates[1] : candidates[0];
}

// Share of cells in the first of two clusters of k-means (Lloyd).
__device__ double cluster_share(const double* x, const Target& target, const i64* before, const double (&draws)[3],
                                Shared& shared) {
  const i64 n = target.n();
  double sum[1] = {0.0}, squares[1] = {0.0};
  for (i64 i = threadIdx.x; i < n; i += THREADS) sum[0] += x[i];
  join_block<Sum>(sum, shared.scratch);
  const double mean = sum[0] / (double)n;
  for (i64 i = threadIdx.x; i < n; i += THREADS) squares[0] += (x[i] - mean) * (x[i] - mean);
  join_block<Sum>(squares, shared.scratch);
  const double tolerance = squares[0] / (double)n * LLOYD_TOLERANCE;
  double first, second;
  two_centres(x, target, before, draws, shared, first, second);
  double low = fmin(first, second), high = fmax(first, second), n_upper = 0.0, n_before = -1.0;
  const bool first_is_high = first > second;
  bool settled = false;
  for (int step = 0; step < LLOYD_STEPS; ++step) {
    // The first centre wins ties, whichever side it is on.
    const double middle = 0.5 * (low + high);
    double sums[3] = {0.0, 0.0, 0.0};
    for (i64 i = threadIdx.x; i < n; i += THREADS) {
      const bool is_upper = x[i] > middle || (first_is_high && x[i] == middle);
      sums[0] += is_upper ? 1.0 : 0.0;
      sums[1] += is_upper ? x[i] - mean : 0.0;
      sums[2] += is_upper ? 0.0 : x[i] - mean;
    }
    join_block<Sum>(sums, shared.scratch);
    n_upper = sums[0];
    // Clusters of numbers are intervals: the same number of cells is the same clusters.
    if (settled || n_upper == n_before || n_upper == 0.0 || n_upper == (double)n) break;
    const double upper = mean + sums[1] / n_upper, lower = mean + sums[2] / ((double)n - n_upper);
    settled = (upper - high) * (upper - high) + (lower - low) * (lower - low) <= tolerance;
    low = lower;
    high = upper;
    n_before = n_upper;
  }
  const double share = n_upper / (double)n;
  return first_is_high ? share : 1.0 - share;
}

// What a step needs of the mixture. One thread.
__device__ __forceinline__ void prepare_step(Shared& shared) {
  const Mixture& m = shared.mixture;
  shared.constant0 = log(m.weight0) - 0.5 * (LOG_2PI + log(m.variance0));
  shared.constant1 = log(m.weight1) - 0.5 * (LOG_2PI + log(m.variance1));
  shared.half0 = -0.5 / m.variance0;
  shared.half1 = -0.5 / m.variance1;
}

// EM from the mixture in `shared`, of which the first component stays; returns whether it converged. The second
// component's variance is not positive where it collapsed.
__device__ bool fit_mixture(const double* x, i64 n, double tol, i64 max_iter, double reg_covar, Shared& shared) {
  double previous = -INFINITE;  // of thread 0
  if (threadIdx.x == 0) {
    prepare_step(shared);
    shared.stop = 0;
  }
  __syncthreads();
  for (i64 step = 0; step < max_iter; ++step) {
    const double mean0 = shared.mixture.mean0, mean1 = shared.mixture.mean1;
    const double constant0 = shared.constant0, constant1 = shared.constant1;
    const double half0 = shared.half0, half1 = shared.half1;
    double sums[5] = {0.0, 0.0, 0.0, 0.0, 0.0};  // shares of both, first and second moment of the second, likelihood
    double product = 1.0;
    int n_factors = 0;
    for (i64 i = threadIdx.x; i < n; i += THREADS) {
      const double away = x[i] - mean1, centred = x[i] - mean0;
      const double log0 = constant0 + half0 * centred * centred, log1 = constant1 + half1 * away * away;
      const double smaller = exp(-fabs(log1 - log0)), larger_share = 1.0 / (1.0 + smaller);
      const double smaller_share = smaller * larger_share;
      const double share1 = log1 >= log0 ? larger_share : smaller_share;
      sums[0] += log1 < log0 ? larger_share : smaller_share;
      sums[1] += share1;
      sums[2] += share1 * away;
      sums[3] += share1 * away * away;
      sums[4] += fmax(log0, log1);
      product *= 1.0 + smaller;
      if (++n_factors == CHUNK) {
        sums[4] += log(product);
        product = 1.0;
        n_factors = 0;
      }
    }
    sums[4] += log(product);
    join_in_first_warp<Sum>(sums, shared.scratch);
    if (threadIdx.x == 0) {
      Mixture& m = shared.mixture;
      const double n0 = SHARE_FLOOR + sums[0], n1 = SHARE_FLOOR + sums[1], shift = sums[2] / n1;
      m.weight0 = n0 / (n0 + n1);
      m.weight1 = n1 / (n0 + n1);
      m.mean1 += shift;
      m.variance1 = sums[3] / n1 - shift * shift + reg_covar;
      const double likelihood = sums[4] / (double)n;
      shared.stop = fabs(likelihood - previous) < tol ? 1 : !(m.variance1 > 0.0) ? 2 : 0;
      previous = likelihood;
      if (shared.stop == 0) prepare_step(shared);
    }
    __syncthreads();
    if (shared.stop) break;
  }
  return shared.stop == 1;
}

// Probability of the second component.
__device__ __forceinline__ double posterior_of(double score, const Mixture& m, double log_odds) {
  const double from0 = score - m.mean0, from1 = score - m.mean1;
  const double odds = log_odds + 0.5 * (from1 * from1 / m.variance1 - from0 * from0 / m.variance0);
  // The exponential never overflows: the larger side is in the denominator.
  const double smaller = exp(-fabs(odds));
  return (odds > 0.0 ? smaller : 1.0) / (1.0 + smaller);
}

struct Rule {
  i64 n_rounds, min_perturbed, max_iter;
  double tol, reg_covar, draws[3];
  int weighted;
};

// Fit the mixture of one round and fill `posterior`; returns the status.
__device__ int assign(const double* x, const Target& target, const unsigned char* perturbed, const i64* before,
                      const Rule& rule, double* posterior, Shared& shared, bool& converged) {
  const double* scores = x + target.n_control;
  double mean0, variance0, mean1, variance1;
  converged = false;
  sample_moments(x, target.n_control, nullptr, shared.scratch, mean0, variance0);
  sample_moments(scores, target.n_cells, perturbed, shared.scratch, mean1, variance1);
  int status = !(variance0 > 0.0) ? CONTROL_CONSTANT : !(variance1 > 0.0) ? PERTURBED_CONSTANT : OK;
  if (status == OK) {
    const double n = (double)target.n(), share = cluster_share(x, target, before, rule.draws, shared);
    const double floor = SHARE_FLOOR / n;
    if (threadIdx.x == 0)
      shared.mixture = Mixture{share + floor, 1.0 - share + floor, mean0, variance0, mean1, variance1};
    __syncthreads();
    converged = fit_mixture(x, target.n(), rule.tol, rule.max_iter, rule.reg_covar, shared);
    if (!(shared.mixture.variance1 > 0.0)) {
      status = ILL_DEFINED;
      converged = false;
    }
  }
  const Mixture m = shared.mixture;
  const double log_odds = status != OK ? 0.0
                                       : 0.5 * log(m.variance1 / m.variance0) +
                                             (rule.weighted ? log(m.weight0 / m.weight1) : 0.0);
  double n_perturbed[1] = {0.0};
  for (int i = threadIdx.x; i < target.n_cells; i += THREADS) {
    posterior[i] = status == OK ? posterior_of(scores[i], m, log_odds) : 0.0;
    n_perturbed[0] += posterior[i] > 0.5 ? 1.0 : 0.0;
  }
  join_block<Sum>(n_perturbed, shared.scratch);
  return status == OK && n_perturbed[0] < (double)rule.min_perturbed ? FEW_PERTURBED : status;
}

// order       targets, the largest first
// x           (n_control + n_cells) of each target, from x_offsets on: the scores of a round
// first_x     the same: the scores of the first round
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    classify_targets(BATCH_PARAMETERS, const int* __restrict__ order, const i64* __restrict__ controls_before,
                     i64 n_rounds, i64 min_perturbed, int weighted, double tol, i64 max_iter, double reg_covar,
                     double draw0, double draw1, double draw2, double* x, double* first_x,
                     const i64* __restrict__ x_offsets, double* posteriors, unsigned char* perturbed,
                     double* __restrict__ scores, i64* __restrict__ rounds, int* __restrict__ converged,
                     int* __restrict__ status, int* __restrict__ missing) {
  __shared__ Shared shared;
  const Rule rule = {n_rounds, min_perturbed, max_iter, tol, reg_covar, {draw0, draw1, draw2}, weighted};
  const int t = order[blockIdx.x];
  const Target target = TARGET(t);
  const i64 first_cell = cell_offsets[t];
  const i64* before = controls_before + first_cell;
  unsigned char* chosen = perturbed + first_cell;
  double *own = x + x_offsets[t], *first = first_x + x_offsets[t], *posterior = posteriors + first_cell;
  for (int i = threadIdx.x; i < target.n_cells; i += THREADS) chosen[i] = 1;
  __syncthreads();

  int outcome = OK;
  i64 round = 0;
  bool has_scores = false, has_converged = false, has_settled = false;
  while (outcome == OK && !has_settled && round < rule.n_rounds) {
    ++round;
    const double length = find_direction(target, chosen, shared.scratch);
    if (!(length > 0.0)) {
      outcome = NO_DIRECTION;
      has_converged = false;
      for (int i = threadIdx.x; i < target.n_cells; i += THREADS) posterior[i] = 0.0;
      break;
    }
    double* now = round == 1 ? first : own;
    project(target, length, now);
    has_scores = true;
    outcome = assign(now, target, chosen, before, rule, posterior, shared, has_converged);
    if (outcome != OK) break;
    double n_changed[1] = {0.0};
    for (int i = threadIdx.x; i < target.n_cells; i += THREADS) {
      const unsigned char is_perturbed = posterior[i] > 0.5;
      n_changed[0] += is_perturbed != chosen[i] ? 1.0 : 0.0;
      chosen[i] = is_perturbed;
    }
    join_block<Sum>(n_changed, shared.scratch);
    has_settled = n_changed[0] == 0.0;
  }
  for (int i = threadIdx.x; i < target.n_cells; i += THREADS) {
    if (outcome != OK) chosen[i] = 0;
    scores[first_cell + i] = has_scores ? first[target.n_control + i] : NOT_A_NUMBER;
  }
  if (threadIdx.x == 0) {
    rounds[t] = round;
    converged[t] = has_converged && (has_settled || outcome != OK);
    status[t] = outcome;
    missing[t] = !has_scores;
  }
}
