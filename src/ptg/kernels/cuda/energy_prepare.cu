// Before and after the energy kernels on half-precision fragments.
#include "energy_common.cuh"

// Centre and scale each row, and split it into two halves: x = hi + lo with 22 bits. A warp takes a row.
//   source   sorted cell of each padded row, -1 for padding
//   norm     squared norm of hi + lo, as the products will see it; -inf for padding, so that its distances become 0
extern "C" __global__ void split_rows(const float* __restrict__ cells, const double* __restrict__ centre, double factor,
                                      const int* __restrict__ source, int n_padded, int n_columns, int width,
                                      u16* __restrict__ hi, u16* __restrict__ lo, float* __restrict__ norm) {
  const int row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (row >= n_padded) return;
  const int cell = source[row];
  double squares = 0.0;
  for (int k = lane; k < width; k += 32) {
    const float x = cell >= 0 && k < n_columns ? (float)(((double)cells[(i64)cell * n_columns + k] - centre[k]) * factor) : 0.f;
    const u16 high = to_half_bits(x);
    const u16 low = to_half_bits(x - half_bits_to_float(high));
    hi[(i64)row * width + k] = high;
    lo[(i64)row * width + k] = low;
    const double value = (double)half_bits_to_float(high) + (double)half_bits_to_float(low);
    squares += value * value;
  }
  squares = warp_sum(squares);
  if (lane == 0) norm[row] = cell >= 0 ? (float)squares : -INFINITE;
}

// Add the fragments of each wanted pair, in order. A thread takes a pair.
//   slots    first partial sum of (tile, chunk of groups), -1 where nothing was computed
extern "C" __global__ void sum_fragments(const double* __restrict__ partial, const i64* __restrict__ slots,
                                         const int* __restrict__ chunk_of_group, const int* __restrict__ chunk_bounds,
                                         const int* __restrict__ padded_offsets, const int* __restrict__ low,
                                         const int* __restrict__ high, i64 n_pairs, int n_chunks, int tile_fragments,
                                         double* __restrict__ sums) {
  const i64 pair = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= n_pairs) return;
  const int a = low[pair], b = high[pair];
  const int chunk = chunk_of_group[b];
  const int n_groups = chunk_bounds[chunk + 1] - chunk_bounds[chunk];
  if (padded_offsets[b] == padded_offsets[b + 1]) return;  // no cells: the sum stays 0
  double sum = 0.0;
  for (int f = padded_offsets[a] / 16; f < padded_offsets[a + 1] / 16; ++f) {
    const int tile = f / tile_fragments;
    sum += partial[slots[(i64)tile * n_chunks + chunk] + (i64)(f % tile_fragments) * n_groups + (b - chunk_bounds[chunk])];
  }
  sums[pair] = sum;
}
