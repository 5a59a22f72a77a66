// Rows and blocks of a matrix.
// Thread map. take_rows: a block takes a row. read_blocks: a block takes a tile, a warp a row of it and its lanes the
// columns; the values go through shared memory, because they are laid out column by column.
#include "blocks.cuh"

// Rows `wanted` of a CSR matrix, one after the other: row k has entries starts[k] to starts[k + 1] - 1.
extern "C" __global__ void take_rows(ROWS_PARAMETERS, const i64* __restrict__ wanted, const i64* __restrict__ starts,
                                     Index* __restrict__ to_indices, Value* __restrict__ to_data) {
  const Rows rows = ROWS;
  const i64 begin = rows.begin(wanted[blockIdx.x]), to = starts[blockIdx.x], n = starts[blockIdx.x + 1] - to;
  for (i64 entry = threadIdx.x; entry < n; entry += blockDim.x) {
    to_indices[to + entry] = indices[begin + entry];
    to_data[to + entry] = data[begin + entry];
  }
}

//   columns   of all blocks
extern "C" __global__ void read_blocks(ROWS_PARAMETERS, BLOCKS_PARAMETERS, const i64* __restrict__ columns,
                                       double* __restrict__ values) {
  __shared__ double found[TILE][TILE + 1];
  const Rows rows = ROWS;
  const Tile tile = TILE_OF_BLOCK;
  const int lane = threadIdx.x;
  if (lane < tile.n_columns) {
    const int column = (int)columns[tile.column + lane];
    for (int r = threadIdx.y; r < tile.n_rows; r += blockDim.y) {
      const i64 row = block_rows[tile.row + r], entry = rows.find(row, column);
      const bool is_stored = entry < rows.end(row) && rows.column(row, entry) == column;
      found[r][lane] = is_stored ? (double)data[entry] : 0.0;
    }
  }
  __syncthreads();
  if (lane < tile.n_rows)
    for (int c = threadIdx.y; c < tile.n_columns; c += blockDim.y)
      values[tile.value + c * tile.stride + lane] = found[lane][c];
}
