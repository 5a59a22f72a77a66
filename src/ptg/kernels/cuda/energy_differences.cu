// Sums of Euclidean distances between groups of cells from differences of the cells: for groups so close that products
// lose too many digits.
//
//   S[a, b] = sum_{i in a, j in b} d(i, j), or with DRAWS S[a, b, r] = sum w_ri w_rj d(i, j) (energy_weights.cuh)
//
// Thread map: a block holds 128 cells of one group in shared memory, and 32 of the other at a time; a warp takes 16 x 16
// distances, 8 a thread. One partial sum per 16 rows[, draw], in fixed order, without atomics.
#ifndef DRAWS
#define DRAWS 0
#endif
#define TOGETHER COLUMNS  // half of what halves allow: products of short floats are as many again
#define COLUMNS 32
#include "energy_common.cuh"
#include "energy_weights.cuh"

#define WARPS 8
#define ROWS (WARPS * FRAGMENT)

// Cells to shared memory, scaled, a warp a row; 0 beyond `n_columns`, and from cell `n_cells` on.
__device__ __forceinline__ void load_cells(float* to, const float* __restrict__ cells, int n_cells, int n_rows, int n_columns,
                                           int width, const CellsInfo* __restrict__ about) {
  const float s0 = about->scale[0], s1 = about->scale[1];
  for (int row = threadIdx.x >> 5; row < n_rows; row += WARPS)
    for (int k = threadIdx.x & 31; k < width; k += 32)
      to[row * width + k] = row < n_cells && k < n_columns ? cells[(i64)row * n_columns + k] * s0 * s1 : 0.f;
}

// Distances of rows `row` and that + 8 to columns `column` and that + 1, + 8, + 9, in the order of two m16n8 fragments.
__device__ __forceinline__ void distances(const float* row, const float* column, int width, float (&d)[8]) {
#pragma unroll
  for (int q = 0; q < 8; ++q) d[q] = 0.f;
#pragma unroll 2
  for (int k = 0; k < width; k += 4) {
    float4 x[2], y[4];
#pragma unroll
    for (int q = 0; q < 2; ++q) x[q] = *reinterpret_cast<const float4*>(row + 8 * q * width + k);
#pragma unroll
    for (int q = 0; q < 4; ++q) y[q] = *reinterpret_cast<const float4*>(column + ((q & 1) + 8 * (q >> 1)) * width + k);
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      const float4 a = x[(q >> 1) & 1], b = y[(q & 1) + 2 * (q >> 2)];
      const float e0 = a.x - b.x, e1 = a.y - b.y, e2 = a.z - b.z, e3 = a.w - b.w;
      d[q] = fmaf(e3, e3, fmaf(e2, e2, fmaf(e1, e1, fmaf(e0, e0, d[q]))));
    }
  }
#pragma unroll
  for (int q = 0; q < 8; ++q) d[q] = root(d[q]);
}

//   width     of a cell in shared memory: a multiple of 4, not of 8, so that neighbours lie in different banks
//   partial   (n_slots,), or (n_slots, DRAWS)
extern "C" __global__ void __launch_bounds__(32 * WARPS, DRAWS ? 1 : 2)
difference_sums(const float* __restrict__ cells, int n_columns, int width, const CellsInfo* __restrict__ about,
                const int* __restrict__ fragment_group, const int* __restrict__ padded_offsets,
                const int* __restrict__ shifts, const Task* __restrict__ tasks, const unsigned char* __restrict__ weights,
                double* __restrict__ partial) {
  extern __shared__ __align__(16) unsigned char shared[];
  float* rows = reinterpret_cast<float*>(shared);
  float* columns = rows + ROWS * width;
  [[maybe_unused]] unsigned char* column_weights = reinterpret_cast<unsigned char*>(columns + COLUMNS * width);
  const Task task = tasks[blockIdx.x];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int row_group = fragment_group[task.fragment], group = task.group_begin;
  const int first_row = task.fragment * FRAGMENT + shifts[row_group];  // a cell, and so are the next three
  const int n_rows = padded_offsets[row_group + 1] + shifts[row_group + 1] - first_row;
  const int first_column = padded_offsets[group] + shifts[group];
  const int n_group = padded_offsets[group + 1] + shifts[group + 1] - first_column;
  load_cells(rows, cells + (i64)first_row * n_columns, n_rows, ROWS, n_columns, width, about);

#if DRAWS > 0
  Weighted weighted;
#else
  const float mask[2] = {warp * FRAGMENT + (lane >> 2) < n_rows ? 1.f : 0.f, warp * FRAGMENT + (lane >> 2) + 8 < n_rows ? 1.f : 0.f};
  double total = 0.0;
#endif
  for (int start = 0; start < n_group; start += COLUMNS) {
    __syncthreads();  // all have left the columns before
    load_cells(columns, cells + (i64)(first_column + start) * n_columns, n_group - start, COLUMNS, n_columns, width, about);
#if DRAWS > 0
    const int n_fragments = (min(n_group - start, COLUMNS) + FRAGMENT - 1) / FRAGMENT;
    const uint4* from = reinterpret_cast<const uint4*>(weights + ((i64)padded_offsets[group] + start) * (DRAWS * 2));
    for (int t = threadIdx.x; t < n_fragments * (DRAWS * 2); t += 32 * WARPS)
      reinterpret_cast<uint4*>(column_weights)[t] = from[t];
#endif
    __syncthreads();
    if (warp >= task.n_fragments) continue;
#pragma unroll 1
    for (int f = 0; f < COLUMNS / FRAGMENT && start + f * FRAGMENT < n_group; ++f) {
      float d[8];
      const int column = f * FRAGMENT + 2 * (lane & 3);
      distances(rows + (warp * FRAGMENT + (lane >> 2)) * width, columns + column * width, width, d);
#if DRAWS > 0
      weighted.add_any(d, column_weights + f * (DRAWS * 32), lane);
#else
      float sum[2] = {0.f, 0.f};
#pragma unroll
      for (int q = 0; q < 8; ++q)
        if (start + column + (q & 1) + 8 * (q >> 2) < n_group) sum[(q >> 1) & 1] += d[q];
      total += (double)fmaf(mask[1], sum[1], mask[0] * sum[0]);
#endif
    }
#if DRAWS > 0
    weighted.add_rows(weights + ((i64)task.fragment + warp) * (DRAWS * 32), lane);
#endif
  }

  if (warp >= task.n_fragments) return;
#if DRAWS > 0
  weighted.write(partial + (task.slot + warp) * DRAWS, lane);
#else
  total = warp_sum(total);
  if (lane == 0) partial[task.slot + warp] = total;
#endif
}
