// Blocks of a matrix (all of some columns in all of some rows), cut into tiles: see `BlockTiles` in matrices.py.
// A block of TILE x 8 threads takes a tile. Values of a block are (n_columns, n_rows), block after block.
#include "rows.cuh"

#define TILE 32

// first_tile   (n_blocks + 1,) number of the first tile of each block
#define BLOCKS_PARAMETERS                                                                          \
  const i64 *__restrict__ block_rows, const i64 *__restrict__ row_offsets,                         \
      const i64 *__restrict__ column_offsets, const i64 *__restrict__ value_offsets,               \
      const i64 *__restrict__ first_tile, int n_blocks
#define TILE_OF_BLOCK find_tile(row_offsets, column_offsets, value_offsets, first_tile, n_blocks)

struct Tile {
  i64 row, column;      // where the tile's rows and columns begin among those of all blocks
  int n_rows, n_columns;
  i64 value, stride;    // where its first value is, and the distance from one column to the next
};

__device__ __forceinline__ Tile find_tile(const i64* row_offsets, const i64* column_offsets, const i64* value_offsets,
                                          const i64* first_tile, int n_blocks) {
  int block = 0, high = n_blocks;  // the last block whose first tile is not after this one: empty blocks have none
  while (high - block > 1) {
    const int middle = (block + high) >> 1;
    if (first_tile[middle] <= blockIdx.x) block = middle;
    else high = middle;
  }
  const i64 n_rows = row_offsets[block + 1] - row_offsets[block];
  const i64 n_columns = column_offsets[block + 1] - column_offsets[block];
  const i64 n_row_tiles = (n_rows + TILE - 1) / TILE, number = blockIdx.x - first_tile[block];
  const i64 row = number % n_row_tiles * TILE, column = number / n_row_tiles * TILE;
  return {row_offsets[block] + row,
          column_offsets[block] + column,
          (int)min(n_rows - row, (i64)TILE),
          (int)min(n_columns - column, (i64)TILE),
          value_offsets[block] + column * n_rows + row,
          n_rows};
}
