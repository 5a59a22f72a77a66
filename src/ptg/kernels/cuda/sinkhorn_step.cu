// What happens between two passes, a block for each task: judge the potential psi, then set the next one.
//
// A pass gives T(psi) = shift - log2(S), the residual r = T(psi) - psi and the dual. Anderson's step combines the last
// potentials so that their residuals cancel best (least squares weighted by mass, depth MEMORY). It is kept if the dual
// at it is not below what the plain step, which is at hand, was known to reach. Vectors and sums are double; the changes
// of psi and r that are combined are of the cells' type.
//
// A group paired with itself has phi = psi at the fixed point. Its plain step goes half way from psi to phi, which never
// lowers the dual either, because this is concave and the same for (phi, psi) and (psi, phi).
//
// Layout. `vectors` is (7, total), `changes` (2 MEMORY, total): each task has its columns from place t.vectors on.
// `gram`, MEMORY x MEMORY a task, has the products of the changes of residuals, weighted by mass.
#include "sinkhorn_common.cuh"
#include "sinkhorn_state.cuh"

enum { PSI, PLAIN, PREVIOUS, RESIDUAL, FRESH, SCALE, PHI };

#define FAR 4.0      // psi - shift from which psi becomes the shift
#define REACH 2000.0 // an accelerated step that goes farther is none
#define RIDGE 1e-9   // part of the diagonal that is added to it: the least squares may be singular
#define LOG_2 0.6931471805599453
#define LEAST (sizeof(Real) == 8 ? 1e-300 : 1e-37)  // column sum that a column without any is given

// Start: psi = shift = -c |v|^2 log2(e) / epsilon, between 0, which is best for groups that are only shifted, and the
// potential of cells far from all others.
extern "C" __global__ void first_potentials(const Task* __restrict__ tasks, State* states, const int* __restrict__ place_cell,
                                 const double* __restrict__ mass, const double* __restrict__ norm, double part,
                                 double* vectors, Real* shift, i64 total) {
  const Task t = tasks[blockIdx.x];
  for (int j = threadIdx.x; j < t.m; j += blockDim.x) {
    const i64 at = t.vectors + j;
    shift[at] = (Real)(-0.5 * part * t.factor * norm[place_cell[t.columns + j]]);
    vectors[PSI * total + at] = (double)shift[at];
    vectors[SCALE * total + at] = mass[t.columns + j];
  }
  if (threadIdx.x == 0) {
    State* s = states + blockIdx.x;
    s->reached = s->dual = __longlong_as_double(0xfff0000000000000LL);
    s->error = 2.0;
    s->iterations = s->seen = s->tried = s->done = 0;
  }
}

__device__ __forceinline__ double column_sum(const Task& t, const double* partial, int j, bool first) {
  double sum = partial[t.partial + j];
  for (int band = 1; band < t.n_bands; ++band) {
    const double other = partial[t.partial + (i64)band * t.ld + j];
    sum = first ? fmax(sum, other) : sum + other;
  }
  return sum;
}

// Set psi's scale, and shift where psi has gone far from it.
__device__ void set_scale(const Task& t, const double* mass, double* vectors, Real* shift, i64 total,
                          BlockScratch& scratch) {
  double nearest[1] = {0.0};
  for (int j = threadIdx.x; j < t.m; j += blockDim.x)
    nearest[0] = fmin(nearest[0], -fabs(vectors[PSI * total + t.vectors + j] - (double)shift[t.vectors + j]));
  __syncthreads();
  join_block<Least>(nearest, scratch);
  const bool moves = nearest[0] < -FAR;
  for (int j = threadIdx.x; j < t.m; j += blockDim.x) {
    const i64 at = t.vectors + j;
    const double psi = vectors[PSI * total + at];
    if (moves) shift[at] = (Real)psi;
    vectors[SCALE * total + at] = mass[t.columns + j] * exp2(psi - (double)shift[at]);
  }
}

// Weights of the changes by Cholesky's factors; one thread.
__device__ void combine(const double* gram, const double* products, int n, double* weight) {
  double factor[MEMORY][MEMORY];
  for (int k = 0; k < n; ++k) {
    double value = products[k];
    for (int i = 0; i < k; ++i) {
      double entry = gram[k * MEMORY + i];
      for (int h = 0; h < i; ++h) entry -= factor[k][h] * factor[i][h];
      factor[k][i] = entry * factor[i][i];
      value -= factor[k][i] * weight[i];
    }
    const double own = gram[k * MEMORY + k];
    double pivot = own * (1.0 + RIDGE);
    for (int h = 0; h < k; ++h) pivot -= factor[k][h] * factor[k][h];
    factor[k][k] = own > 0.0 ? 1.0 / sqrt(fmax(pivot, RIDGE * own)) : 0.0;  // its inverse
    weight[k] = value * factor[k][k];
  }
  for (int k = n - 1; k >= 0; --k) {
    double value = weight[k];
    for (int h = k + 1; h < n; ++h) value -= factor[h][k] * weight[h];
    weight[k] = value * factor[k][k];
  }
}

// Keep the last change of psi and r, and return the weights of all changes in `weight`: their number.
__device__ int remember(const Task& t, int count, const double* mass, double* vectors, Real* changes, i64 total,
                        double relaxation, BlockScratch& scratch, double* all_gram, double* weight) {
  const int n = min(count, MEMORY), slot = (count + MEMORY - 1) % MEMORY;
  double gram[MEMORY] = {}, products[MEMORY] = {};
  for (int j = threadIdx.x; j < t.m; j += blockDim.x) {
    const i64 at = t.vectors + j;
    const double psi = vectors[PSI * total + at], r = vectors[FRESH * total + at] - psi;
    if (n > 0) {
      const double b = mass[t.columns + j];
      const double of_residual = r - vectors[RESIDUAL * total + at];
      const Real change = (Real)of_residual;
      changes[slot * total + at] = change;
      changes[(MEMORY + slot) * total + at] = (Real)(psi - vectors[PREVIOUS * total + at] + relaxation * of_residual);
#pragma unroll
      for (int k = 0; k < MEMORY; ++k)
        if (k < n) {
          const double other = b * (double)(k == slot ? change : changes[k * total + at]);
          gram[k] += other * (double)change;
          products[k] += other * r;
        }
    }
    vectors[RESIDUAL * total + at] = r;
    vectors[PREVIOUS * total + at] = psi;
    vectors[PLAIN * total + at] = vectors[FRESH * total + at];
  }
  if (n > 0) {  // the same for all threads
    __syncthreads();
    join_in_first_warp<Sum>(gram, scratch);
    __syncthreads();
    join_in_first_warp<Sum>(products, scratch);
    if (threadIdx.x == 0) {
      for (int k = 0; k < n; ++k) all_gram[slot * MEMORY + k] = all_gram[k * MEMORY + slot] = gram[k];
      combine(all_gram, products, n, weight);
    }
  }
  __syncthreads();
  return n;
}

// psi + relaxation r, less the combination of changes; the plain step where that is too far.
__device__ void advance(const Task& t, State* s, double* vectors, const Real* changes, i64 total, double relaxation,
                        const double* weight, int n, BlockScratch& scratch) {
  double nearest[1] = {0.0};
  for (int j = threadIdx.x; j < t.m; j += blockDim.x) {
    const i64 at = t.vectors + j;
    double psi = vectors[PSI * total + at] + relaxation * vectors[RESIDUAL * total + at];
#pragma unroll
    for (int k = 0; k < MEMORY; ++k)
      if (k < n) psi -= weight[k] * (double)changes[(MEMORY + k) * total + at];
    const double moved = fabs(psi - vectors[PLAIN * total + at]);
    nearest[0] = fmin(nearest[0], moved <= REACH ? -moved : -2.0 * REACH);  // NaN is far
    vectors[PSI * total + at] = psi;
  }
  __syncthreads();
  join_block<Least>(nearest, scratch);
  const bool is_near = nearest[0] >= -REACH;
  if (!is_near)
    for (int j = threadIdx.x; j < t.m; j += blockDim.x)
      vectors[PSI * total + t.vectors + j] = vectors[PLAIN * total + t.vectors + j];
  if (threadIdx.x == 0) {
    s->tried = is_near && (n > 0 || relaxation != 1.0);
    s->seen += 1;
  }
}

//   list      tasks of the blocks
//   partial   the pass's column sums, `dual` its parts of sum(a phi)
//   slack     part by which duals differ that are the same but for rounding
//   first     whether column sums are maxima of x + shift + phi, to start from
extern "C" __global__ void next_potentials(const Task* __restrict__ tasks, const int* __restrict__ list, State* states,
                                           const double* __restrict__ mass, const double* __restrict__ partial,
                                           const double* __restrict__ dual, double* vectors, Real* shift,
                                           Real* changes, double* gram, i64 total, double tol, int max_iter,
                                           double relaxation, double slack, int first) {
  __shared__ BlockScratch scratch;
  __shared__ double weight[MEMORY];
  const int number = list[blockIdx.x];
  State* s = states + number;
  if (s->done) return;
  const Task t = tasks[number];
  double* psi = vectors + PSI * total + t.vectors;
  double* scale = vectors + SCALE * total + t.vectors;
  double* fresh = vectors + FRESH * total + t.vectors;
  const double* b = mass + t.columns;

  const bool is_symmetric = t.row_set == t.column_set;
  double sums[6] = {};  // marginal error; sums of b psi, b T(psi), a phi; size of the dual; sum of a |phi - psi|
  for (int j = threadIdx.x; j < t.m; j += blockDim.x) {
    const double sum = column_sum(t, partial, j, first);
    if (first) {
      shift[t.vectors + j] = (Real)-sum;
      psi[j] = (double)shift[t.vectors + j];
      scale[j] = b[j];
      continue;
    }
    fresh[j] = (double)shift[t.vectors + j] - log2(fmax(sum, LEAST));
    sums[0] += fabs((double)(Chain)scale[j] * sum - b[j]);
    if (is_symmetric) {
      const double gap = vectors[PHI * total + t.vectors + j] - psi[j];
      sums[5] += b[j] * fabs(gap);
      fresh[j] = psi[j] + 0.5 * gap;
    }
    sums[1] += b[j] * psi[j];
    sums[2] += b[j] * (is_symmetric ? psi[j] : fresh[j]);
    sums[4] += b[j] * fabs(psi[j]);
  }
  if (first) return;
  for (int k = threadIdx.x; k < t.n_duals; k += blockDim.x) {
    sums[3] += dual[t.dual + k];
    sums[4] += fabs(dual[t.dual + k]);
  }
  join_block<Sum>(sums, scratch);
  const int iterations = s->iterations + 1, tried = s->tried;
  const double reached = s->reached, now = sums[1] + sums[3];
  const double error = fmax(sums[0], LOG_2 * sums[5]);  // NaN only if both are
  const bool is_last = iterations >= max_iter, converged = error <= tol;
  const bool taken_back = tried && !converged && !(now >= reached - slack * (1.0 + sums[4]));
  __syncthreads();  // everybody has read the state
  if (threadIdx.x == 0) {
    s->iterations = iterations;
    s->done = converged || is_last;
    if (!taken_back) {
      s->reached = s->dual = sums[2] + sums[3];
      s->error = error;
    } else {
      s->seen = s->tried = 0;
    }
  }
  if (converged || is_last) return;
  if (taken_back) {
    for (int j = threadIdx.x; j < t.m; j += blockDim.x) psi[j] = vectors[PLAIN * total + t.vectors + j];
  } else {
    const int n = remember(t, s->seen, mass, vectors, changes, total, relaxation, scratch,
                           gram + (i64)number * MEMORY * MEMORY, weight);
    advance(t, s, vectors, changes, total, relaxation, weight, n, scratch);
  }
  set_scale(t, mass, vectors, shift, total, scratch);
}
