// Distances within subsets of cells, from differences: the distance of two cells is the same number wherever they meet.
//
//   s(subset) = 2 sum over i < j in the subset of |x_i - x_j|        c(i) = sum over j in a group of |x_i - x_j|
//
// Layout. Cells are rows of `n_columns` values. A subset holds numbers of cells: those below `n_first` are rows of
// `first`, the others rows of `second`. In shared memory columns are contiguous, so that a thread reads four neighbouring
// cells at once; a thread computes 4 x 4 distances. A multiple of four cells that is odd times four spreads what a warp
// writes over the banks.
//
// Values are multiplied with `factor`, so sums are in units of 1 / factor. Squares are summed in the type of the cells, 64 columns at a time (32 in tiles), then in float64.
#include "block_sums.cuh"
typedef long long i64;

#ifndef Value
#define Value float
#endif

#define SIDE 4
#define COLUMNS 64
#define TILE 64
#define TILE_COLUMNS 32
#define TILE_STRIDE 68

struct __align__(16) Four {
  Value of[SIDE];
};

struct Rows {
  const Value* first;
  const Value* second;
  i64 n_first;
  Value factor;  // a power of two, so that squares neither overflow nor vanish
  __device__ __forceinline__ Value at(i64 cell, int column, int n_columns) const {
    return factor * (cell < n_first ? first + cell * n_columns : second + (cell - n_first) * n_columns)[column];
  }
};

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

// Add the squared differences of 4 x 4 cells in n columns; x and y point to four neighbouring cells each.
__device__ __forceinline__ void add_squares(const Value* x, const Value* y, int n, int stride,
                                            double (&squares)[SIDE][SIDE]) {
  Value part[SIDE][SIDE] = {};
  for (int k = 0; k < n; ++k) {
    const Four u = *(const Four*)(x + k * stride), v = *(const Four*)(y + k * stride);
#pragma unroll
    for (int a = 0; a < SIDE; ++a)
#pragma unroll
      for (int b = 0; b < SIDE; ++b) {
        const Value d = u.of[a] - v.of[b];
        part[a][b] += d * d;
      }
  }
#pragma unroll
  for (int a = 0; a < SIDE; ++a)
#pragma unroll
    for (int b = 0; b < SIDE; ++b) squares[a][b] += (double)part[a][b];
}

// Numbers of the cells with weight 1, ascending. A warp takes a draw.
extern "C" __global__ void members(const unsigned short* __restrict__ weights, i64 n_draws, i64 n_cells, int n_chosen,
                                   int* __restrict__ out) {
  const i64 draw = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  const int lane = threadIdx.x & 31;
  if (draw >= n_draws) return;
  const unsigned short* row = weights + draw * n_cells;
  int* chosen = out + draw * n_chosen;
  int n_found = 0;
  for (i64 start = 0; start < n_cells; start += 32) {
    const bool found = start + lane < n_cells && row[start + lane] != 0;
    const unsigned flags = __ballot_sync(EVERY_LANE, found);
    const int at = n_found + __popc(flags & ((1u << lane) - 1u));
    if (found && at < n_chosen) chosen[at] = (int)(start + lane);
    n_found += __popc(flags);
  }
}

// A block takes a draw of a subset that fits in shared memory: n_columns x stride values, stride = odd x 4 >= n_chosen.
extern "C" __global__ void subset_sums(const Value* __restrict__ first, i64 n_first, const Value* __restrict__ second,
                                       const int* __restrict__ subsets, int n_chosen, int n_columns, Value factor, int stride,
                                       double* __restrict__ out) {
  extern __shared__ double2 memory[];
  __shared__ BlockScratch scratch;
  Value* values = (Value*)memory;
  const Rows rows = {first, second, n_first, factor};
  const int* chosen = subsets + (i64)blockIdx.x * n_chosen;
  for (int t = threadIdx.x; t < n_chosen * n_columns; t += blockDim.x) {
    const int cell = t / n_columns, k = t % n_columns;
    values[k * stride + cell] = rows.at(chosen[cell], k, n_columns);
  }
  for (int t = threadIdx.x; t < (stride - n_chosen) * n_columns; t += blockDim.x)
    values[t / (stride - n_chosen) * stride + n_chosen + t % (stride - n_chosen)] = 0;
  __syncthreads();
  const int n_fours = (n_chosen + SIDE - 1) / SIDE, n_squares = n_fours * (n_fours + 1) / 2;
  double total[1] = {0.0};
  for (int square = threadIdx.x; square < n_squares; square += blockDim.x) {
    int row = (int)((sqrtf(8.f * (float)square + 1.f) - 1.f) * 0.5f);  // row (row + 1) / 2 <= square
    while (row * (row + 1) / 2 > square) --row;
    while ((row + 1) * (row + 2) / 2 <= square) ++row;
    const int i = SIDE * row, j = SIDE * (square - row * (row + 1) / 2);
    double squares[SIDE][SIDE] = {};
    for (int k = 0; k < n_columns; k += COLUMNS)
      add_squares(values + k * stride + i, values + k * stride + j, min(COLUMNS, n_columns - k), stride, squares);
#pragma unroll
    for (int a = 0; a < SIDE; ++a)
#pragma unroll
      for (int b = 0; b < SIDE; ++b)
        if (i + a < n_chosen && i + a > j + b) total[0] += (double)root((Value)squares[a][b]);
  }
  join_in_first_warp<Sum>(total, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = 2.0 * total[0];
}

// Copy a tile's cells, some columns of them, to shared memory; zeros beyond the last cell.
//   chosen   numbers of the cells; without it they are begin, begin + 1, ...
__device__ __forceinline__ void load_tile(const Rows& rows, const int* chosen, i64 begin, i64 end, int column, int n,
                                          int n_columns, Value* out) {
  for (int t = threadIdx.x; t < TILE * n; t += blockDim.x) {
    const int cell = t / n, k = t % n;
    Value value = 0;
    if (begin + cell < end) value = rows.at(chosen ? chosen[begin + cell] : begin + cell, column + k, n_columns);
    out[k * TILE_STRIDE + cell] = value;
  }
}

// The squared distances of 64 x 64 cells: a thread of 256 has rows 4 (thread / 16) and columns 4 (thread % 16) on.
__device__ __forceinline__ void tile_squares(const Rows& rows, const int* row_cells, i64 row, i64 row_end,
                                             const int* column_cells, i64 column, i64 column_end, int n_columns,
                                             Value* x, Value* y, double (&squares)[SIDE][SIDE]) {
  for (int k = 0; k < n_columns; k += TILE_COLUMNS) {
    const int n = min(TILE_COLUMNS, n_columns - k);
    __syncthreads();
    load_tile(rows, row_cells, row, row_end, k, n, n_columns, x);
    load_tile(rows, column_cells, column, column_end, k, n, n_columns, y);
    __syncthreads();
    add_squares(x + SIDE * (threadIdx.x / 16), y + SIDE * (threadIdx.x % 16), n, TILE_STRIDE, squares);
  }
}

// A block of 256 threads takes a draw of a larger subset, tile by tile.
extern "C" __global__ void large_subset_sums(const Value* __restrict__ first, i64 n_first,
                                             const Value* __restrict__ second, const int* __restrict__ subsets,
                                             int n_chosen, int n_columns, Value factor, double* __restrict__ out) {
  __shared__ __align__(16) Value x[TILE_COLUMNS * TILE_STRIDE];
  __shared__ __align__(16) Value y[TILE_COLUMNS * TILE_STRIDE];
  __shared__ BlockScratch scratch;
  const Rows rows = {first, second, n_first, factor};
  const int* chosen = subsets + (i64)blockIdx.x * n_chosen;
  const int i = SIDE * (threadIdx.x / 16), j = SIDE * (threadIdx.x % 16);
  double total[1] = {0.0};
  for (int row = 0; row < n_chosen; row += TILE)
    for (int column = 0; column <= row; column += TILE) {
      double squares[SIDE][SIDE] = {};
      tile_squares(rows, chosen, row, n_chosen, chosen, column, n_chosen, n_columns, x, y, squares);
#pragma unroll
      for (int a = 0; a < SIDE; ++a)
#pragma unroll
        for (int b = 0; b < SIDE; ++b)
          if (row + i + a < n_chosen && row + i + a > column + j + b) total[0] += (double)root((Value)squares[a][b]);
    }
  join_in_first_warp<Sum>(total, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = 2.0 * total[0];
}

// A block of 256 threads takes up to 64 cells of a group and sums their distances to the cells of another.
//   tasks    (n_tasks, 5): rows begin and end, columns begin and end, where the first sum belongs
extern "C" __global__ void cell_sums(const Value* __restrict__ cells, const i64* __restrict__ tasks, int n_columns,
                                     Value factor, double* __restrict__ out) {
  __shared__ __align__(16) Value x[TILE_COLUMNS * TILE_STRIDE];
  __shared__ __align__(16) Value y[TILE_COLUMNS * TILE_STRIDE];
  const i64* task = tasks + 5 * (i64)blockIdx.x;
  const i64 row = task[0], row_end = task[1], column_end = task[3];
  const Rows rows = {cells, cells, row_end > column_end ? row_end : column_end, factor};
  const int i = SIDE * (threadIdx.x / 16), j = SIDE * (threadIdx.x % 16);
  double sums[SIDE] = {};
  for (i64 column = task[2]; column < column_end; column += TILE) {
    double squares[SIDE][SIDE] = {};
    tile_squares(rows, 0, row, row_end, 0, column, column_end, n_columns, x, y, squares);
#pragma unroll
    for (int a = 0; a < SIDE; ++a)
#pragma unroll
      for (int b = 0; b < SIDE; ++b)
        if (column + j + b < column_end) sums[a] += (double)root((Value)squares[a][b]);
  }
#pragma unroll
  for (int a = 0; a < SIDE; ++a) {
#pragma unroll
    for (int s = 8; s > 0; s >>= 1) sums[a] += __shfl_xor_sync(EVERY_LANE, sums[a], s);
    if (threadIdx.x % 16 == 0 && row + i + a < row_end) out[task[4] + i + a] = sums[a];
  }
}
