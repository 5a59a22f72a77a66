// The exponents x = factor * u.v of many pairs of groups, in the type of the cells.
//
// A block takes a tile of 64 rows and 64 columns, a thread 8 x 4 of it: rows 4 ty ... 4 ty + 3 and 32 more, columns
// 4 tx ... 4 tx + 3.
#include "sinkhorn_common.cuh"

#define TILE 64
#define DEPTH 32
#define THREADS 128

struct __align__(16) Four {
  Real value[4];
};

// Place 64 cells of a list, DEPTH values each, into shared memory, value by value; zeros past the end.
__device__ __forceinline__ void load_cells(Real (*to)[TILE], const int* list, int n, const Real* cells, i64 stride,
                                           int begin, int end) {
  for (int t = threadIdx.x; t < TILE * (DEPTH / 4); t += THREADS) {
    const int i = t % TILE, k = (t / TILE) * 4;
    Four four = {};
    if (i < n && begin + k < end) four = *reinterpret_cast<const Four*>(cells + list[i] * stride + begin + k);
#pragma unroll
    for (int c = 0; c < 4; ++c) to[k + c][i] = four.value[c];
  }
}

//   owner, list, starts   see own_task: a block takes a tile, tiles of columns first
//   place_cell            cell of each place in the lists
//   cells                 (n_cells, stride): zeros from column `end` to a multiple of 4
//   joins                 whether to add to what is there: products of wide cells come panel by panel
extern "C" __global__ void __launch_bounds__(THREADS)
products(const Task* __restrict__ tasks, const int* __restrict__ owner, const int* __restrict__ list,
         const i64* __restrict__ starts, const int* __restrict__ place_cell, const Real* __restrict__ cells,
         i64 stride, int end, int joins, Real* __restrict__ kernel) {
  __shared__ __align__(16) Real left[DEPTH][TILE];
  __shared__ __align__(16) Real right[DEPTH][TILE];
  int number;
  const Task t = tasks[own_task(owner, list, starts, &number)];
  const int n_column_tiles = (t.ld + TILE - 1) / TILE;
  const int row = (number / n_column_tiles) * TILE, column = (number % n_column_tiles) * TILE;
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;

  Real sum[8][4] = {};
  for (int begin = 0; begin < end; begin += DEPTH) {
    __syncthreads();
    load_cells(left, place_cell + t.rows + row, t.n - row, cells, stride, begin, end);
    load_cells(right, place_cell + t.columns + column, t.m - column, cells, stride, begin, end);
    __syncthreads();
    const int depth = min(DEPTH, (end - begin + 3) & ~3);
    for (int k4 = 0; k4 < depth; k4 += 4) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int k = k4 + c;
        const Four low = *reinterpret_cast<const Four*>(&left[k][ty * 4]);
        const Four high = *reinterpret_cast<const Four*>(&left[k][ty * 4 + 32]);
        const Four b = *reinterpret_cast<const Four*>(&right[k][tx * 4]);
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sum[i][j] += low.value[i] * b.value[j];
            sum[i + 4][j] += high.value[i] * b.value[j];
          }
      }
    }
  }

  const int j = column + tx * 4;
  if (j >= t.ld) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int at = row + (i >> 2) * 32 + ty * 4 + (i & 3);
    if (at >= t.n) continue;
    Four* to = reinterpret_cast<Four*>(kernel + t.kernel + (i64)at * t.ld + j);
    Four out;
    if (joins) out = *to;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const Real scaled = (Real)(t.factor * (double)sum[i][c]);
      out.value[c] = joins ? out.value[c] + scaled : scaled;
    }
    *to = out;
  }
}
