// Cells made ready for transport: panels of columns, centred on each group, and moments of sets of cells with masses (a
// set is a group in a draw). Panels are (n_cells, stride), zeros from column `width` on.
#include "rows.cuh"
#include "block_sums.cuh"

#ifndef Real
#define Real float
#endif

#define PANEL 64
#define LANES 4  // rows that a block of PANEL x LANES threads takes at once

// Columns first_column ... + width - 1 of all rows. A warp takes a row.
extern "C" __global__ void load_panel(ROWS_PARAMETERS, int first_column, int width, int stride,
                                      double* __restrict__ panel) {
  const Rows rows = ROWS;
  const i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= last_row) return;
  const int lane = threadIdx.x & 31;
  double* to = panel + row * stride;
  for (int k = lane; k < stride; k += 32) to[k] = 0.0;
  __syncwarp();
  const i64 end = rows.find(row, first_column + width);
  for (i64 entry = rows.find(row, first_column) + lane; entry < end; entry += 32)
    to[rows.column(row, entry) - first_column] = (double)data[entry];
}

// Where each group is centred: its first cell and the mean difference from it, which is exactly 0 for equal cells.
// A block of PANEL x n threads takes a group.
extern "C" __global__ void centre_groups(const double* __restrict__ panel, const i64* __restrict__ offsets, int stride,
                                         double* __restrict__ centre) {
  __shared__ double sums[16][PANEL];
  const int k = threadIdx.x, lane = threadIdx.y;
  const i64 begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
  const bool inside = k < stride && begin < end;
  const double origin = inside ? panel[begin * stride + k] : 0.0;
  double sum = 0.0;
  if (inside)
    for (i64 cell = begin + lane; cell < end; cell += blockDim.y) sum += panel[cell * stride + k] - origin;
  sums[lane][k] = sum;
  __syncthreads();
  if (lane > 0 || k >= stride) return;
  for (int other = 1; other < (int)blockDim.y; ++other) sum += sums[other][k];
  centre[(i64)blockIdx.x * stride + k] = inside ? origin + sum / (double)(end - begin) : 0.0;
}

// Centred cells, and with `counts` what they add to the squared norms. A warp takes a cell.
extern "C" __global__ void centre_cells(const double* __restrict__ panel, const int* __restrict__ group,
                                        const double* __restrict__ centre, i64 n_cells, int stride,
                                        Real* __restrict__ cells, double* __restrict__ norm, int counts) {
  const i64 cell = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (cell >= n_cells) return;
  const int lane = threadIdx.x & 31;
  const double* origin = centre + (i64)group[cell] * stride;
  double squares[1] = {0.0};
  for (int k = lane; k < stride; k += 32) {
    const Real value = (Real)(panel[cell * stride + k] - origin[k]);
    cells[cell * stride + k] = value;
    squares[0] += (double)value * (double)value;
  }
  join_warp<Sum>(squares);
  if (lane == 0 && counts) norm[cell] += squares[0];
}

// Sum LANES values of each column of a block; the threads of lane 0 have the results.
__device__ __forceinline__ double join_lanes(double value, double (*sums)[PANEL]) {
  __syncthreads();
  sums[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  double sum = 0.0;
  for (int lane = 0; lane < LANES; ++lane) sum += sums[lane][threadIdx.x];
  return sum;
}

// Mean of every set, (n_sets, stride), and how much it adds to `trace`: mean squared norm less squared norm of the mean.
extern "C" __global__ void set_means(const i64* __restrict__ set_offsets, const int* __restrict__ place_cell,
                                     const double* __restrict__ mass, const Real* __restrict__ cells,
                                     int stride, double* __restrict__ mean, double* __restrict__ trace, int joins) {
  __shared__ double sums[LANES][PANEL];
  const int k = threadIdx.x, lane = threadIdx.y;
  const i64 begin = set_offsets[blockIdx.x], end = set_offsets[blockIdx.x + 1];
  double first = 0.0, second = 0.0;
  if (k < stride)
    for (i64 place = begin + lane; place < end; place += LANES) {
      const double value = (double)cells[(i64)place_cell[place] * stride + k];
      first += mass[place] * value;
      second += mass[place] * value * value;
    }
  first = join_lanes(first, sums);
  second = join_lanes(second, sums);
  if (lane == 0 && k < stride) mean[(i64)blockIdx.x * stride + k] = first;
  __syncthreads();
  if (lane == 0) sums[0][k] = second - first * first;
  __syncthreads();
  if (lane == 0 && k == 0) {
    double own = joins ? trace[blockIdx.x] : 0.0;
    for (int c = 0; c < PANEL; ++c) own += sums[0][c];
    trace[blockIdx.x] = own;
  }
}

// What the columns of a panel add to the squared distance of the means of the sets of a pair, and to the product of the
// means about which they were centred, (n_pairs, 2). A warp takes a pair.
//   sets     (n_pairs, 2)
//   centre   (n_groups, stride); set s is of group s % n_groups
extern "C" __global__ void pair_means(const int* __restrict__ sets, i64 n_pairs, const double* __restrict__ centre,
                                      const double* __restrict__ mean, int n_groups, int stride,
                                      double* __restrict__ out, int joins) {
  const i64 pair = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (pair >= n_pairs) return;
  const i64 left = sets[2 * pair], right = sets[2 * pair + 1];
  double found[2] = {0.0, 0.0};
  for (int k = threadIdx.x & 31; k < stride; k += 32) {
    const double x = mean[left * stride + k], y = mean[right * stride + k];
    const double gap = centre[left % n_groups * stride + k] - centre[right % n_groups * stride + k] + (x - y);
    found[0] += gap * gap;
    found[1] += x * y;
  }
  join_warp<Sum>(found);
  if ((threadIdx.x & 31) < 2) {
    const int which = threadIdx.x & 31;
    out[2 * pair + which] = (joins ? out[2 * pair + which] : 0.0) + found[which];
  }
}
