// A function of every row of one block of cells with every row of another, and sums of a block by pairs of groups.
// All in double.
//   ACCUMULATE   what is summed (or maximised) over the columns: 0 squared difference, 1 absolute difference,
//                2 largest absolute difference, 3 product
//   FINISH       what becomes of it: 0 nothing, 1 exp(-gamma v), 2 (gamma v)^degree
typedef long long i64;

#ifndef ACCUMULATE
#define ACCUMULATE 0
#endif
#ifndef FINISH
#define FINISH 1
#endif

#define EDGE 64   // rows and columns of the result that a block of threads makes
#define DEPTH 16  // columns of the cells in shared memory at once
#define EACH 4    // rows and columns of a thread

__device__ __forceinline__ double accumulate(double v, double x, double y) {
#if ACCUMULATE == 0
  const double d = x - y;
  return fma(d, d, v);
#elif ACCUMULATE == 1
  return v + fabs(x - y);
#elif ACCUMULATE == 2
  return fmax(v, fabs(x - y));
#else
  return fma(x, y, v);
#endif
}

__device__ __forceinline__ double finish(double v, double gamma, int degree) {
#if FINISH == 0
  return v;
#elif FINISH == 1
  return exp(-gamma * v);
#else
  const double factor = gamma * v;
  double power = factor;
  for (int k = 1; k < degree; ++k) power *= factor;
  return power;
#endif
}

// out[i, j] = f(rows[i], columns[j]). 16 x 16 threads make 64 x 64 values; a thread's rows and columns are 16 apart.
//   rows      (n_rows, width)        columns   (n_columns, width)        out   (n_rows, n_columns)
extern "C" __global__ void values(const double* __restrict__ rows, const double* __restrict__ columns, int n_rows,
                                  int n_columns, int width, double gamma, int degree, double* __restrict__ out) {
  __shared__ double a[DEPTH][EDGE + 1], b[DEPTH][EDGE + 1];
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
  const i64 top = (i64)blockIdx.y * EDGE, left = (i64)blockIdx.x * EDGE;
  double v[EACH][EACH] = {};
  for (int first = 0; first < width; first += DEPTH) {
    const int depth = min(DEPTH, width - first);
    // Neighbouring threads read neighbouring columns of a cell.
    for (int k = threadIdx.x; k < EDGE * DEPTH; k += 256) {
      const int row = k / DEPTH, column = k % DEPTH;
      const bool inside = column < depth;
      a[column][row] = inside && top + row < n_rows ? rows[(top + row) * width + first + column] : 0.0;
      b[column][row] = inside && left + row < n_columns ? columns[(left + row) * width + first + column] : 0.0;
    }
    __syncthreads();
    for (int k = 0; k < depth; ++k) {
      double x[EACH], y[EACH];
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        x[e] = a[k][ty + 16 * e];
        y[e] = b[k][tx + 16 * e];
      }
#pragma unroll
      for (int p = 0; p < EACH; ++p)
#pragma unroll
        for (int q = 0; q < EACH; ++q) v[p][q] = accumulate(v[p][q], x[p], y[q]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int p = 0; p < EACH; ++p)
#pragma unroll
    for (int q = 0; q < EACH; ++q) {
      const i64 i = top + ty + 16 * p, j = left + tx + 16 * q;
      if (i < n_rows && j < n_columns) out[i * n_columns + j] = finish(v[p][q], gamma, degree);
    }
}

// out[d, i, b] = sum over the columns j of segment b of weights[d, j] values[i, j]. A warp takes one.
//   values    (n_rows, n_columns)
//   weights   (n_draws, n_columns), or null for one draw of ones
//   bounds    (n_segments + 1,)
extern "C" __global__ void sum_columns(const double* __restrict__ values, const double* __restrict__ weights,
                                       const int* __restrict__ bounds, int n_draws, int n_rows, int n_columns,
                                       int n_segments, double* __restrict__ out) {
  const i64 task = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (task >= (i64)n_draws * n_rows * n_segments) return;
  const i64 b = task % n_segments, i = task / n_segments % n_rows, d = task / n_segments / n_rows;
  double sum = 0.0;
  for (int j = bounds[b] + (int)(threadIdx.x & 31); j < bounds[b + 1]; j += 32)
    sum += (weights ? weights[d * n_columns + j] : 1.0) * values[i * n_columns + j];
#pragma unroll
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if ((threadIdx.x & 31) == 0) out[task] = sum;
}

// out[d, p] = sum over the rows i of segment a of weights[d, i] parts[d, i, b], (a, b) = wanted[p]. A warp takes one.
//   parts     (n_draws, n_rows, n_segments)
//   weights   (n_draws, n_rows), or null for one draw of ones
//   bounds    bounds of the segments of the rows
//   wanted    (n_wanted, 2)
extern "C" __global__ void sum_rows(const double* __restrict__ parts, const double* __restrict__ weights,
                                    const int* __restrict__ bounds, const int* __restrict__ wanted, int n_draws,
                                    int n_rows, int n_segments, int n_wanted, double* __restrict__ out) {
  const i64 task = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (task >= (i64)n_draws * n_wanted) return;
  const i64 p = task % n_wanted, d = task / n_wanted;
  const int a = wanted[2 * p], b = wanted[2 * p + 1];
  double sum = 0.0;
  for (int i = bounds[a] + (int)(threadIdx.x & 31); i < bounds[a + 1]; i += 32)
    sum += (weights ? weights[d * n_rows + i] : 1.0) * parts[(d * n_rows + i) * n_segments + b];
#pragma unroll
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if ((threadIdx.x & 31) == 0) out[task] = sum;
}
