// Sums of the columns over segments of neighbouring rows, and of squared deviations from the mean of a group.
//
//   sums[d, s, c] = sum_{i in s} w_di x_ic        squares[d, s, c] = sum_{i in s} w_di (x_ic - mean_dgc)^2,  s in group g
//
// Layout. Segment s has the rows bounds[s] to bounds[s + 1] - 1 and never more than one group; the results are
// (n_draws, n_segments, n_columns) float64, zero before. A launch takes the segments from first_segment on that the rows
// at hold.
// Thread map. Dense: a thread takes a column of a segment, for several draws. Sparse: a block takes a segment (of one
// draw) and its threads the entries of a row, each of another column; the next row waits for all of them.
// Every sum is taken row after row, with each product rounded before it is added, so it has the bits of the CPU's.
#include "rows.cuh"

#ifndef Weight
#define Weight double
#endif
#ifndef DRAWS
#define DRAWS 1  // draws of a thread of dense_sums
#endif

__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }

//   weights   (n_draws, last_row - first_row), or null for one draw of ones
extern "C" __global__ void sparse_sums(ROWS_PARAMETERS, const i64* __restrict__ bounds, i64 first_segment,
                                       i64 n_segments, const Weight* __restrict__ weights, double* sums) {
  const Rows rows = ROWS;
  const i64 segment = first_segment + blockIdx.x, draw = blockIdx.y;
  double* out = sums + (draw * n_segments + segment) * n_columns;
  for (i64 row = bounds[segment]; row < bounds[segment + 1]; ++row) {
    const double weight = weights ? (double)weights[draw * (last_row - first_row) + (row - first_row)] : 1.0;
    if (weight == 0.0) continue;  // for the whole block
    const i64 end = rows.end(row);
    for (i64 entry = rows.begin(row) + threadIdx.x; entry < end; entry += blockDim.x) {
      const int column = rows.column(row, entry);
      out[column] = plus(out[column], times(weight, (double)data[entry]));
    }
    __syncthreads();
  }
}

extern "C" __global__ void dense_sums(ROWS_PARAMETERS, const i64* __restrict__ bounds, i64 first_segment,
                                      i64 n_segments, const Weight* __restrict__ weights, i64 n_draws,
                                      double* __restrict__ sums) {
  const int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= n_columns) return;
  const i64 segment = first_segment + blockIdx.x, n_rows = last_row - first_row;
  const i64 first_draw = (i64)blockIdx.z * DRAWS;
  double sum[DRAWS] = {};
  for (i64 row = bounds[segment] - first_row; row < bounds[segment + 1] - first_row; ++row) {
    const double x = (double)data[row * n_columns + column];
#pragma unroll
    for (int k = 0; k < DRAWS; ++k) {
      // Past the last draw: the last one again, for nothing.
      const double weight = weights ? (double)weights[min(first_draw + k, n_draws - 1) * n_rows + row] : 1.0;
      if (weight != 0.0) sum[k] = plus(sum[k], times(weight, x));
    }
  }
#pragma unroll
  for (int k = 0; k < DRAWS; ++k)
    if (first_draw + k < n_draws) sums[((first_draw + k) * n_segments + segment) * n_columns + column] = sum[k];
}

//   means      (n_draws, n_groups, n_columns)
//   group_of   (n_segments,)
//   stored     (n_draws, n_segments, n_columns) zeros: becomes the weight of the entries of each column
extern "C" __global__ void sparse_squares(ROWS_PARAMETERS, const i64* __restrict__ bounds, i64 first_segment,
                                          i64 n_segments, const Weight* __restrict__ weights,
                                          const double* __restrict__ means, const int* __restrict__ group_of,
                                          i64 n_groups, double* stored, double* squares) {
  const Rows rows = ROWS;
  const i64 segment = first_segment + blockIdx.x, draw = blockIdx.y;
  const double* mean = means + (draw * n_groups + group_of[segment]) * n_columns;
  double* out = squares + (draw * n_segments + segment) * n_columns;
  double* weight_stored = stored + (draw * n_segments + segment) * n_columns;
  double total = 0.0;
  for (i64 row = bounds[segment]; row < bounds[segment + 1]; ++row) {
    const double weight = weights ? (double)weights[draw * (last_row - first_row) + (row - first_row)] : 1.0;
    total = plus(total, weight);
    if (weight == 0.0) continue;  // for the whole block
    const i64 end = rows.end(row);
    for (i64 entry = rows.begin(row) + threadIdx.x; entry < end; entry += blockDim.x) {
      const int column = rows.column(row, entry);
      const double deviation = plus((double)data[entry], -mean[column]);
      out[column] = plus(out[column], times(weight, times(deviation, deviation)));
      weight_stored[column] = plus(weight_stored[column], weight);
    }
    __syncthreads();
  }
  for (int column = threadIdx.x; column < n_columns; column += blockDim.x) {
    const double zeros = plus(total, -weight_stored[column]);
    out[column] = plus(out[column], times(times(zeros, mean[column]), mean[column]));
  }
}

extern "C" __global__ void dense_squares(ROWS_PARAMETERS, const i64* __restrict__ bounds, i64 first_segment,
                                         i64 n_segments, const Weight* __restrict__ weights,
                                         const double* __restrict__ means, const int* __restrict__ group_of,
                                         i64 n_groups, i64 n_draws, double* __restrict__ squares) {
  const int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= n_columns) return;
  const i64 segment = first_segment + blockIdx.x, n_rows = last_row - first_row;
  const i64 first_draw = (i64)blockIdx.z * DRAWS;
  double sum[DRAWS] = {}, mean[DRAWS];
#pragma unroll
  for (int k = 0; k < DRAWS; ++k)
    mean[k] = means[(min(first_draw + k, n_draws - 1) * n_groups + group_of[segment]) * n_columns + column];
  for (i64 row = bounds[segment] - first_row; row < bounds[segment + 1] - first_row; ++row) {
    const double x = (double)data[row * n_columns + column];
#pragma unroll
    for (int k = 0; k < DRAWS; ++k) {
      // Past the last draw: the last one again, for nothing.
      const double weight = weights ? (double)weights[min(first_draw + k, n_draws - 1) * n_rows + row] : 1.0;
      const double deviation = plus(x, -mean[k]);
      if (weight != 0.0) sum[k] = plus(sum[k], times(weight, times(deviation, deviation)));
    }
  }
#pragma unroll
  for (int k = 0; k < DRAWS; ++k)
    if (first_draw + k < n_draws) squares[((first_draw + k) * n_segments + segment) * n_columns + column] = sum[k];
}

// Add the segments of each group in order. A thread takes a column of a group.
//   first   (n_groups + 1,): group g has segments first[g] to first[g + 1] - 1
//   out     (n_draws, n_groups, n_columns)
extern "C" __global__ void add_segments(const double* __restrict__ sums, const i64* __restrict__ first, i64 n_segments,
                                        int n_columns, double* __restrict__ out) {
  const int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= n_columns) return;
  const i64 group = blockIdx.x, draw = blockIdx.z;
  double sum = 0.0;
  for (i64 segment = first[group]; segment < first[group + 1]; ++segment)
    sum = plus(sum, sums[(draw * n_segments + segment) * n_columns + column]);
  out[(draw * gridDim.x + group) * n_columns + column] = sum;
}
