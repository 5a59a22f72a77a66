// Before and after the energy kernels on tensor cores (energy_common.cuh says what rows look like).
#ifndef Weight
#define Weight unsigned short
#endif
#include "energy_common.cuh"

// Sum, least and largest of each column, relative to the first row. A block takes a run of rows.
//   out   (n_blocks, 3, n_columns)
extern "C" __global__ void sum_columns(const float* __restrict__ cells, i64 n_rows, int n_columns, double* __restrict__ out) {
  extern __shared__ __align__(16) unsigned char shared[];
  double* parts = reinterpret_cast<double*>(shared);  // [3][rows at once * n_columns]
  const int at_once = blockDim.x / n_columns, used = at_once * n_columns;
  const i64 per_block = (n_rows + gridDim.x - 1) / gridDim.x;
  const i64 first = blockIdx.x * per_block, last = min(first + per_block, n_rows);
  const int column = threadIdx.x % n_columns;
  if ((int)threadIdx.x < used) {
    const double origin = cells[column];
    double sum = 0.0, least = 0.0, largest = 0.0;
#pragma unroll 4
    for (i64 row = first + threadIdx.x / n_columns; row < last; row += at_once) {
      const double x = (double)cells[row * n_columns + column] - origin;
      sum += x;
      least = fmin(least, x);
      largest = fmax(largest, x);
    }
    parts[threadIdx.x] = sum;
    parts[used + threadIdx.x] = least;
    parts[2 * used + threadIdx.x] = largest;
  }
  __syncthreads();
  if ((int)threadIdx.x < n_columns) {
    double v[3] = {0.0, 0.0, 0.0};
    for (int k = threadIdx.x; k < used; k += n_columns) {
      v[0] += parts[k];
      v[1] = fmin(v[1], parts[used + k]);
      v[2] = fmax(v[2], parts[2 * used + k]);
    }
    for (int q = 0; q < 3; ++q) out[((i64)blockIdx.x * 3 + q) * n_columns + threadIdx.x] = v[q];
  }
}

__device__ __forceinline__ float power_of_two(int exponent) { return __int_as_float((exponent + 127) << 23); }

// Centre and scale from the parts of `sum_columns`. One block of at least n_columns threads.
extern "C" __global__ void describe_cells(const float* __restrict__ cells, const double* __restrict__ parts, int n_parts,
                                          i64 n_rows, int n_columns, double* __restrict__ centre,
                                          CellsInfo* __restrict__ about) {
  __shared__ double largest[256];
  const int k = threadIdx.x;
  if (k < n_columns) {
    double sum = 0.0, low = 0.0, high = 0.0;
#pragma unroll 4
    for (int p = 0; p < n_parts; ++p) {
      const double* part = parts + (i64)p * 3 * n_columns + k;
      sum += part[0];
      low = fmin(low, part[n_columns]);
      high = fmax(high, part[2 * n_columns]);
    }
    const double mean = sum / (double)n_rows;
    centre[k] = (double)cells[k] + mean;
    largest[k] = fmax(high - mean, mean - low);
  }
  __syncthreads();
  if (k == 0) {
    double most = 0.0;
    for (int c = 0; c < n_columns; ++c) most = fmax(most, largest[c]);
    // The largest value becomes 512 or more, and less than 1024.
    const int exponent = most > 0.0 ? 9 - ((int)((__double_as_longlong(most) >> 52) & 2047) - 1023) : 0;
    about->scale[0] = power_of_two(exponent / 2);
    about->scale[1] = power_of_two(exponent - exponent / 2);
    about->factor = (double)about->scale[0] * (double)about->scale[1];
  }
}

// The group that padded row `row` belongs to, n_groups past the last.
__device__ __forceinline__ int find_group(const int* __restrict__ padded_offsets, int n_groups, int row) {
  int low = 0, high = n_groups;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (padded_offsets[middle + 1] <= row) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Centre, scale, split and lay out the rows, on the left and on the right side of products. A warp takes 8 rows.
//   shifts   (n_groups + 1,): cell of a row minus row
//   norms    squared norms, 0 for padding
extern "C" __global__ void split_rows(const float* __restrict__ cells, const double* __restrict__ centre,
                                      const CellsInfo* __restrict__ about, const int* __restrict__ padded_offsets,
                                      const int* __restrict__ shifts, int n_groups, int n_blocks, int n_columns,
                                      uint4* __restrict__ left, uint4* __restrict__ right, float* __restrict__ norms,
                                      int* __restrict__ fragment_group) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int lane = threadIdx.x & 31, block = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  uint4* to_left = reinterpret_cast<uint4*>(shared) + (threadIdx.x >> 5) * (2 * CHUNKS * 8);
  uint4* to_right = to_left + CHUNKS * 8;
  if (block >= n_blocks) return;
  for (int t = lane; t < 2 * CHUNKS * 8; t += 32) to_left[t] = make_uint4(0, 0, 0, 0);
  __syncwarp();
  u16* l = reinterpret_cast<u16*>(to_left);
  u16* r = reinterpret_cast<u16*>(to_right);
  const int group = find_group(padded_offsets, n_groups, block * 8);
  const int shift = group < n_groups ? shifts[group] : 0;
  const int n_real = group < n_groups ? padded_offsets[group + 1] + shifts[group + 1] - shift : 0;  // rows before this
  if (lane == 0 && (block & 1) == 0) fragment_group[block >> 1] = group;
  const double factor = about->factor;
  const int rest = 2 * EIGHTS * 64;  // first half of the rest chunks
  for (int q = 0; q < 8; ++q) {
    const int row = block * 8 + q;
    const bool real = row < n_real;
    double squares = 0.0;
    for (int k = lane; real && k < n_columns; k += 32) {
      const float x = (float)(((double)cells[(i64)(row + shift) * n_columns + k] - centre[k]) * factor);
      const u16 hi = to_half_bits(x), lo = to_half_bits(x - half_bits_to_float(hi));
      const u16 hi2 = to_half_bits(-2.f * half_bits_to_float(hi)), lo2 = to_half_bits(-2.f * half_bits_to_float(lo));
      if (k < 8 * EIGHTS) {
        const int at = (k >> 3) * 64 + q * 8 + (k & 7);
        l[at] = lo2;
        l[at + EIGHTS * 64] = hi2;
        r[at] = hi;
        r[at + EIGHTS * 64] = lo;
      } else {
        const u16 ls[3] = {lo2, hi2, hi2}, rs[3] = {hi, lo, hi};
        for (int c = 0; c < 3; ++c) {
          const int p = 3 * (k - 8 * EIGHTS) + c, at = rest + (p >> 3) * 64 + q * 8 + (p & 7);
          l[at] = ls[c];
          r[at] = rs[c];
        }
      }
      const double value = (double)half_bits_to_float(hi) + (double)half_bits_to_float(lo);
      squares += value * value;
    }
    squares = warp_sum(squares);
    if (lane == 0) {
      norms[row] = (float)squares;
      const float n = real ? (float)squares : 536870912.f;  // 2^29: padding is far from everything
      const u16 n1 = to_half_bits(n * 6.103515625e-05f);
      const float without1 = (float)(real ? squares - (double)(half_bits_to_float(n1) * 16384.f) : 0.0);
      const u16 n2 = to_half_bits(without1 * 0.125f);
      const u16 n3 = to_half_bits((without1 - half_bits_to_float(n2) * 8.f) * 256.f);
      const u16 norm[3] = {n1, n2, n3}, unit[3] = {0x7400, 0x4800, 0x1c00};  // 2^14, 2^3, 2^-8
      for (int c = 0; c < 6; ++c) {
        const int p = 8 * REST - 6 + c, at = rest + (p >> 3) * 64 + q * 8 + (p & 7);
        l[at] = c < 3 ? norm[c] : unit[c - 3];
        r[at] = c < 3 ? unit[c] : norm[c - 3];
      }
    }
  }
  __syncwarp();
  for (int t = lane; t < CHUNKS * 8; t += 32) {
    left[(i64)block * CHUNKS * 8 + t] = to_left[t];
    right[(i64)block * CHUNKS * 8 + t] = to_right[t];
  }
}

// What the energy kernels need to know of each 128 rows. A thread takes 128 rows.
extern "C" __global__ void describe_rows(const float* __restrict__ norms, const int* __restrict__ fragment_group,
                                         const int* __restrict__ padded_offsets, const int* __restrict__ shifts,
                                         int n_groups, int n_infos, RowsInfo* __restrict__ info) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n_infos) return;
  RowsInfo about = {0, 0, 0.f};
  for (int f = 0; f < 8; ++f) {
    const int fragment = at * 8 + f, group = fragment_group[fragment];
    if (group >= n_groups) continue;
    const int n_real = padded_offsets[group + 1] + shifts[group + 1] - shifts[group];
    about.valid |= (u64)min(n_real - fragment * FRAGMENT, FRAGMENT) << (8 * f);
    if (padded_offsets[group + 1] == (fragment + 1) * FRAGMENT) about.last |= 1u << f;
  }
  for (int row = at * 128; row < at * 128 + 128; ++row) about.largest = fmaxf(about.largest, norms[row]);
  info[at] = about;
}

// Which of two groups brings the rows and which the columns, and which columns each tile of rows meets. A thread takes a
// pair. The columns come from the later group, or from the earlier one if that is much larger: fewer partial sums.
//   number   of each group among those with cells, -1 without
//   first    (n_tiles, n_chunks) least group of columns, `stop` one past the largest
extern "C" __global__ void orient_pairs(const i64* __restrict__ left, const i64* __restrict__ right, i64 n_pairs,
                                        const int* __restrict__ number, const int* __restrict__ padded_offsets,
                                        const int* __restrict__ chunk_of_group, int n_chunks, int tile_rows,
                                        int* __restrict__ row_group, int* __restrict__ column_group,
                                        int* __restrict__ first, int* __restrict__ stop) {
  const i64 pair = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= n_pairs) return;
  const int a = number[left[pair]], b = number[right[pair]];
  int row = min(a, b), column = max(a, b);
  if (row < 0) {
    row_group[pair] = -1;
    return;
  }
  const int n_early = padded_offsets[row + 1] - padded_offsets[row];
  const int n_late = padded_offsets[column + 1] - padded_offsets[column];
  if (n_early >= 2048 && n_early / 8 >= n_late) {
    const int early = row;
    row = column;
    column = early;
  }
  row_group[pair] = row;
  column_group[pair] = column;
  const int chunk = chunk_of_group[column];
  for (int tile = padded_offsets[row] / tile_rows; tile <= (padded_offsets[row + 1] - 1) / tile_rows; ++tile) {
    const i64 at = (i64)tile * n_chunks + chunk;
    if (first[at] > column) atomicMin(first + at, column);
    if (stop[at] < column + 1) atomicMax(stop + at, column + 1);
  }
}

// A fragment of rows and a group of columns: where their partial sum is.
__device__ __forceinline__ i64 partial_index(const i64* __restrict__ slots, const int* __restrict__ first,
                                             const int* __restrict__ stop, int n_chunks, int chunk, int tile_fragments,
                                             int fragment, int group) {
  const i64 at = (i64)(fragment / tile_fragments) * n_chunks + chunk;
  return slots[at] + (i64)(fragment % tile_fragments) * (stop[at] - first[at]) + (group - first[at]);
}

// Add the fragments of each pair, in order, to what earlier tiles gave. A thread takes a pair and one of its values.
//   partial   (n_slots, n_values)
//   slots     (n_tiles, n_chunks) first partial sum of a task
//   begin     fragments of rows that `partial` holds, from begin to end - 1
//   sums      (n_pairs, n_values)
extern "C" __global__ void sum_fragments(const double* __restrict__ partial, const i64* __restrict__ slots,
                                         const int* __restrict__ first, const int* __restrict__ stop,
                                         const int* __restrict__ chunk_of_group, const int* __restrict__ padded_offsets,
                                         const int* __restrict__ row_group, const int* __restrict__ column_group,
                                         i64 n_pairs, int n_chunks, int tile_fragments, int begin, int end, int n_values,
                                         double* __restrict__ sums) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 pair = at / n_values;
  if (pair >= n_pairs) return;
  const int row = row_group[pair], column = column_group[pair];
  if (row < 0) return;  // no cells: the sum stays 0
  const int from = max(begin, padded_offsets[row] / FRAGMENT), to = min(end, padded_offsets[row + 1] / FRAGMENT);
  if (from >= to) return;
  const double* values = partial + at % n_values;
  double sum = sums[at];
  for (int f = from; f < to; ++f)
    sum += values[partial_index(slots, first, stop, n_chunks, chunk_of_group[column], tile_fragments, f, column) * n_values];
  sums[at] = sum;
}

// Tasks for some pairs of groups: at most `tile_fragments` fragments of the one against the other. A thread takes a pair.
//   first_slot, first_task   (n_pairs + 1,)
extern "C" __global__ void list_tasks(const int* __restrict__ row_group, const int* __restrict__ column_group,
                                      const i64* __restrict__ first_slot, const i64* __restrict__ first_task, i64 n_pairs,
                                      const int* __restrict__ padded_offsets, int tile_fragments,
                                      Task* __restrict__ tasks) {
  const i64 pair = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= n_pairs) return;
  const int first = padded_offsets[row_group[pair]] / FRAGMENT, column = column_group[pair];
  const int n_fragments = (int)(first_slot[pair + 1] - first_slot[pair]);
  for (int f = 0; f < n_fragments; f += tile_fragments)
    tasks[first_task[pair] + f / tile_fragments] =
        Task{first + f, min(tile_fragments, n_fragments - f), column, column + 1, first_slot[pair] + f};
}

// Add the partial sums of each pair, in order. A thread takes a pair and one of its values.
//   partial   (n_slots, n_values), sums (n_pairs, n_values)
extern "C" __global__ void sum_slots(const double* __restrict__ partial, const i64* __restrict__ first_slot, i64 n_pairs,
                                     int n_values, double* __restrict__ sums) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 pair = at / n_values;
  if (pair >= n_pairs) return;
  double sum = 0.0;
  for (i64 slot = first_slot[pair]; slot < first_slot[pair + 1]; ++slot) sum += partial[slot * n_values + at % n_values];
  sums[at] = sum;
}

// Scale sums back: (n_pairs, padded draws) to (n_draws, n_pairs).
extern "C" __global__ void finish_weighted(const double* __restrict__ sums, const CellsInfo* __restrict__ about,
                                           i64 n_pairs, int padded_draws, int n_draws, double* __restrict__ out) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 draw = at / n_pairs, pair = at % n_pairs;
  if (draw < n_draws) out[draw * n_pairs + pair] = sums[pair * padded_draws + draw] / about->factor;
}

// Lay out weights as halves: 8 x 8 matrices of draws and rows, for each 8 rows one for every 8 draws. A thread takes a draw
// and 8 rows.
extern "C" __global__ void split_weights(const Weight* __restrict__ weights, i64 n_cells, int n_draws, int padded_draws,
                                         const int* __restrict__ fragment_group, const int* __restrict__ padded_offsets,
                                         const int* __restrict__ shifts, int n_groups, int n_blocks,
                                         uint4* __restrict__ out) {
  const int block = blockIdx.x * blockDim.x + threadIdx.x, draw = blockIdx.y;
  if (block >= n_blocks) return;
  const int group = fragment_group[block >> 1];
  const int shift = group < n_groups ? shifts[group] : 0;
  const int n_real = group < n_groups ? padded_offsets[group + 1] + shifts[group + 1] - shift : 0;
  u16 halves[8];
#pragma unroll
  for (int q = 0; q < 8; ++q) {
    const int row = block * 8 + q;
    halves[q] = draw < n_draws && row < n_real ? to_half_bits((float)weights[draw * n_cells + row + shift]) : 0;
  }
  out[((i64)block * (padded_draws / 8) + (draw >> 3)) * 8 + (draw & 7)] =
      make_uint4(halves[0] | (u32)halves[1] << 16, halves[2] | (u32)halves[3] << 16, halves[4] | (u32)halves[5] << 16,
                 halves[6] | (u32)halves[7] << 16);
}
