// The perturbation signature by nearest neighbours: out[i, g] = log1p(mean over neighbours j of expm1(x_jg)) - x_ig.
//
// Layout. The table holds expm1 of the cells that are anybody's neighbour, once, in the dtype of the expression, dense
// or as CSR; sums and logarithms are float64, neighbours are added in the order given. `rows` are the cells i.
// Thread map. Dense: a thread takes a gene of a cell. CSR: a block takes a tile of genes of a cell; its sums are in
// shared memory, one neighbour is added after the other, and the entries of one row never meet.
#include "rows.cuh"

#ifndef Out
#define Out float
#endif
#define TILE 4096  // genes of a block: 32 KiB of sums

// out[e] = expm1(values[e]), computed in float64 and rounded once.
extern "C" __global__ void exponentials(const Value* __restrict__ values, i64 n, Value* __restrict__ out) {
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < n; e += (i64)gridDim.x * blockDim.x)
    out[e] = (Value)expm1((double)values[e]);
}

// offsets   (n_rows + 1,) into `neighbors`, which are rows of the table
#ifdef DENSE
extern "C" __global__ void signature(const Value* __restrict__ table, const i64* __restrict__ offsets,
                                     const int* __restrict__ neighbors, ROWS_PARAMETERS, Out* __restrict__ out) {
  const i64 cell = blockIdx.x, gene = (i64)blockIdx.y * blockDim.x + threadIdx.x;
  if (gene >= n_columns) return;
  const i64 begin = offsets[cell], end = offsets[cell + 1];
  double sum = 0.0;
#pragma unroll 5
  for (i64 e = begin; e < end; ++e) sum += (double)table[(i64)neighbors[e] * n_columns + gene];
  const i64 at = cell * n_columns + gene;
  out[at] = (Out)(log1p(sum / (double)(end - begin)) - (double)data[at]);
}
#else
// bounds    (n_rows, n_tiles + 1): entries where the tiles of genes begin in each row. A thread takes one.
extern "C" __global__ void tile_bounds(ROWS_PARAMETERS, int n_tiles, i64* __restrict__ bounds) {
  const Rows rows = ROWS;
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (last_row - first_row) * (n_tiles + 1)) return;
  bounds[at] = rows.find(first_row + at / (n_tiles + 1), (int)min(at % (n_tiles + 1) * TILE, (i64)n_columns));
}

// bounds, columns, table   of the table; rows of the block: blockIdx.x
extern "C" __global__ void __launch_bounds__(256)
    signature(const i64* __restrict__ bounds, const int* __restrict__ columns, const Value* __restrict__ table,
              const i64* __restrict__ offsets, const int* __restrict__ neighbors, ROWS_PARAMETERS,
              Out* __restrict__ out) {
  __shared__ double values[TILE];
  const Rows rows = ROWS;
  const i64 cell = blockIdx.x;
  const int n_tiles = gridDim.y, tile = blockIdx.y, first = tile * TILE, n_here = min(TILE, n_columns - first);
  for (int g = threadIdx.x; g < n_here; g += blockDim.x) values[g] = 0.0;
  __syncthreads();
  const i64 begin = offsets[cell], end = offsets[cell + 1];
  for (i64 e = begin; e < end; ++e) {
    const i64 at = (i64)neighbors[e] * (n_tiles + 1) + tile, stop = bounds[at + 1];
    for (i64 s = bounds[at] + threadIdx.x; s < stop; s += blockDim.x) values[columns[s] - first] += (double)table[s];
    __syncthreads();
  }
  const double n = (double)(end - begin);
  for (int g = threadIdx.x; g < n_here; g += blockDim.x) values[g] = log1p(values[g] / n);
  __syncthreads();
  const i64 own = first_row + cell, stop = rows.find(own, first + n_here);
  for (i64 s = rows.find(own, first) + threadIdx.x; s < stop; s += blockDim.x)
    values[(int)indices[s] - first] -= (double)data[s];
  __syncthreads();
  for (int g = threadIdx.x; g < n_here; g += blockDim.x) out[cell * n_columns + first + g] = (Out)values[g];
}
#endif
