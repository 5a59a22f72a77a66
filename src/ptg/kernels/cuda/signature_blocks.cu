// Blocks of the perturbation signature: log1p(mean over neighbours j of expm1(x_jg)) - x_ig.
//
// Layout. The table is (n_neighbours, n_genes) in the dtype of the expression: expm1 of the genes of all blocks in the
// cells that are anybody's neighbour in a block. `values` holds x at first. Neighbours are added in the order given, in
// float64: the bits are those of neighbor_means.cu.
// Thread map. mark_neighbors: a thread takes a cell. fill_table: a block takes a row. subtract: a block takes a tile.
#include "blocks.cuh"

//   cells   of all blocks
extern "C" __global__ void mark_neighbors(const i64* __restrict__ cells, i64 n_cells, const i64* __restrict__ offsets,
                                          const Index* __restrict__ neighbors, int* is_used) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n_cells) return;
  for (i64 e = offsets[cells[at]]; e < offsets[cells[at] + 1]; ++e) is_used[neighbors[e]] = 1;
}

//   used      rows of the matrix that the table has
//   place     (n_columns,) column of each gene in the table, -1 for none
extern "C" __global__ void fill_table(ROWS_PARAMETERS, const i64* __restrict__ used, const int* __restrict__ place,
                                      i64 width, Value* __restrict__ table) {
  const Rows rows = ROWS;
  const i64 row = used[blockIdx.x], end = rows.end(row);
  Value* out = table + blockIdx.x * width;
  for (i64 entry = rows.begin(row) + threadIdx.x; entry < end; entry += blockDim.x) {
    const int to = place[rows.column(row, entry)];
    if (to >= 0) out[to] = (Value)expm1((double)data[entry]);
  }
}

//   columns     of all blocks, in the table
//   offsets     (n_cells + 1,) into `neighbors`
//   neighbors   rows of the table
extern "C" __global__ void subtract(BLOCKS_PARAMETERS, const i64* __restrict__ columns, const Value* __restrict__ table,
                                    i64 width, const i64* __restrict__ offsets, const int* __restrict__ neighbors,
                                    double* __restrict__ values) {
  __shared__ double means[TILE][TILE + 1];
  const Tile tile = TILE_OF_BLOCK;
  const int lane = threadIdx.x;
  if (lane < tile.n_columns) {
    const Value* own = table + columns[tile.column + lane];
    for (int r = threadIdx.y; r < tile.n_rows; r += blockDim.y) {
      const i64 cell = block_rows[tile.row + r], begin = offsets[cell], end = offsets[cell + 1];
      double sum = 0.0;
#pragma unroll 4
      for (i64 e = begin; e < end; ++e) sum += (double)own[neighbors[e] * width];
      means[r][lane] = log1p(sum / (double)(end - begin));
    }
  }
  __syncthreads();
  if (lane < tile.n_rows)
    for (int c = threadIdx.y; c < tile.n_columns; c += blockDim.y) {
      double* value = values + tile.value + c * tile.stride + lane;
      *value = means[lane][c] - *value;
    }
}
