// Passes over the exponents of one large pair, band by band of rows, by the whole device: see sinkhorn_sweep.cu for what
// a pass is. A band of rows is read twice, once for the rows and once for the columns. Bits do not depend on where bands
// begin, as long as that is a multiple of SEGMENT.
#include "sinkhorn_common.cuh"
#include "sinkhorn_state.cuh"

#define SEGMENT 128  // rows whose column sums are joined first
#define CHAIN 32

// Maximum and sum of every row of a band. A block takes a row.
//   kernel       exponents of the band
//   first_row    of the band
//   top, weight  (rows of the band): the maximum; a_i / the sum
//   dual, phi    (n,): a_i phi_i; phi_i, of a group paired with itself
extern "C" __global__ void band_rows(const Task* __restrict__ tasks, const State* __restrict__ states,
                                     const Real* __restrict__ kernel, i64 first_row, const double* __restrict__ mass,
                                     const Real* __restrict__ shift, const double* __restrict__ scale, Real* top,
                                     double* weight, double* dual, double* phi, int first) {
  __shared__ BlockScratch scratch;
  if (states->done) return;
  const int m = tasks->m;
  const Real* line = kernel + (i64)blockIdx.x * tasks->ld;
  double highest[1] = {(double)LARGE};
  for (int j = threadIdx.x; j < m; j += blockDim.x) highest[0] = fmin(highest[0], -(double)(line[j] + shift[j]));
  join_block<Least>(highest, scratch);
  const Real whole = (Real)-highest[0];
  double sum[1] = {0.0};
  if (!first)
    for (int j = threadIdx.x; j < m; j += blockDim.x)
      sum[0] += (double)((Chain)power_of_two(line[j] + shift[j] - whole) * (Chain)scale[j]);
  __syncthreads();
  join_block<Sum>(sum, scratch);
  if (threadIdx.x == 0) {
    const double a = mass[tasks->rows + first_row + blockIdx.x];
    top[blockIdx.x] = whole;
    weight[blockIdx.x] = first ? 0.0 : a / sum[0];
    const double own_phi = first ? 0.0 : -((double)whole + log2(sum[0]));
    dual[first_row + blockIdx.x] = a * own_phi;
    if (tasks->row_set == tasks->column_set) phi[first_row + blockIdx.x] = own_phi;
  }
}

// Column sums of the segments of a band, (n_segments, ld). A thread takes a column; blockIdx.y counts segments.
extern "C" __global__ void band_columns(const Task* __restrict__ tasks, const State* __restrict__ states,
                                        const Real* __restrict__ kernel, int n_rows, const Real* __restrict__ shift,
                                        const Real* __restrict__ top, const double* __restrict__ weight,
                                        double* __restrict__ partial, int first) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (states->done || j >= tasks->m) return;
  const i64 ld = tasks->ld;
  const Real own = shift[j];
  const int begin = blockIdx.y * SEGMENT, end = min(begin + SEGMENT, n_rows);
  double sum = first ? -(double)LARGE : 0.0;
  for (int row = begin; row < end; row += CHAIN) {
    Chain chain = first ? -(Chain)LARGE : (Chain)0;
    const int stop = min(row + CHAIN, end);
#pragma unroll 8
    for (int i = row; i < stop; ++i) {
      const Real x = kernel[i * ld + j] + own - top[i];
      if (first) chain = larger(chain, (Chain)x);
      else chain += (Chain)power_of_two(x) * (Chain)weight[i];
    }
    sum = first ? fmax(sum, (double)chain) : sum + (double)chain;
  }
  partial[blockIdx.y * ld + j] = first ? sum - (double)own : sum;
}

// Join the segments of a band with those of the bands before it.
extern "C" __global__ void band_join(const Task* __restrict__ tasks, const State* __restrict__ states,
                                     const double* __restrict__ partial, int n_segments, int begins, int first,
                                     double* __restrict__ sums) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (states->done || j >= tasks->m) return;
  double sum = begins ? (first ? -(double)LARGE : 0.0) : sums[j];
  for (int k = 0; k < n_segments; ++k) {
    const double other = partial[(i64)k * tasks->ld + j];
    sum = first ? fmax(sum, other) : sum + other;
  }
  sums[j] = sum;
}
