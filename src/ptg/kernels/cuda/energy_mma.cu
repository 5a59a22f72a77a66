// Sums of Euclidean distances between groups of cells, float32 accuracy, on tensor cores from sm_80 on.
//
//   S[a, b]    = sum_{i in a, j in b} d(i, j)               without DRAWS
//   S[a, b, r] = sum w_ri w_rj (d(i, j) - typical)          with DRAWS, a multiple of 64
//
// d(i, j) is the root of one product (energy_common.cuh). Thread map: a warp keeps 16 * WARP_FRAGMENTS rows in registers;
// tiles of columns stream past the block by cp.async, STAGES deep. Weights: subtracting a distance that is typical keeps
// float32 sums accurate; the accumulators of a 16 x 16 fragment of distances are, as two halves each, the left operand of a
// second product with the weights of its columns, exact in halves up to 2048. Its 16 x DRAWS sums are multiplied by the
// weights of the rows and added over them after at most 256 columns, then kept in float64. One partial sum per (16 rows,
// group of columns[, draw]), in fixed order, without atomics, the same whatever the task.
#include "energy_common.cuh"

#ifndef COLUMNS
#define COLUMNS 64
#endif
#ifndef STAGES
#define STAGES 2
#endif
#ifndef WARPS
#define WARPS 8
#endif
#ifndef BLOCKS
#define BLOCKS 1  // that share a multiprocessor
#endif
#ifndef WARP_FRAGMENTS
#define WARP_FRAGMENTS 1
#endif
#ifndef DRAWS
#define DRAWS 0
#endif
#define TOGETHER 256  // columns whose weighted distances are added in float32

#define ROWS (16 * WARP_FRAGMENTS * WARPS)
#define FRAGMENTS (COLUMNS / FRAGMENT)
#define COLUMN_BYTES (COLUMNS / 8 * BLOCK_BYTES)
#define WEIGHT_BYTES (COLUMNS / 8 * DRAWS * 16)
#define STAGE_BYTES (COLUMN_BYTES + WEIGHT_BYTES)

#if DRAWS > 0
// Sums over the 16 rows of a fragment for DRAWS draws; a lane ends up with DRAWS / 32 of them.
struct Weighted {
  float products[DRAWS / 8][4];
  double totals[DRAWS / 32];

  __device__ __forceinline__ Weighted() {
#pragma unroll
    for (int n = 0; n < DRAWS / 8; ++n)
#pragma unroll
      for (int q = 0; q < 4; ++q) products[n][q] = 0.f;
#pragma unroll
    for (int n = 0; n < DRAWS / 32; ++n) totals[n] = 0.0;
  }

  // Distances in the order of two m16n8 fragments; `weights` of their 16 columns in shared memory.
  __device__ __forceinline__ void add(const float (&d)[8], const unsigned char* weights, int lane) {
    u32 hi[4], lo[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      hi[q] = pack_halves(d[2 * q], d[2 * q + 1]);
      lo[q] = pack_halves(d[2 * q] - half_bits_to_float((u16)hi[q]), d[2 * q + 1] - half_bits_to_float((u16)(hi[q] >> 16)));
    }
#pragma unroll
    for (int n = 0; n < DRAWS / 8; n += 4) {
      u32 first[4], second[4];
      load_matrices(first, weights + n * 128, lane);
      load_matrices(second, weights + DRAWS * 16 + n * 128, lane);
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        mma(products[n + q], lo[0], lo[1], lo[2], lo[3], first[q], second[q]);
        mma(products[n + q], hi[0], hi[1], hi[2], hi[3], first[q], second[q]);
      }
    }
  }

  // Keep half of the draws that a lane holds, and add another lane's rows to them.
  template <int half>
  __device__ __forceinline__ static void halve(float (&v)[DRAWS / 4], int lane, int bit) {
    const bool upper = lane & bit;
#pragma unroll
    for (int k = 0; k < half; ++k) {
      const float keep = upper ? v[half + k] : v[k], send = upper ? v[k] : v[half + k];
      v[k] = keep + __shfl_xor_sync(0xffffffffu, send, bit);
    }
  }

  // Multiply by the weights of the rows (two blocks of 8 rows), add over the rows, start again.
  __device__ __forceinline__ void add_rows(const unsigned char* weights, int lane) {
    float v[DRAWS / 4];
#pragma unroll
    for (int n = 0; n < DRAWS / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const u16* w = reinterpret_cast<const u16*>(weights + n * 128) + (2 * (lane & 3) + e) * 8 + (lane >> 2);
        v[2 * n + e] = half_bits_to_float(w[0]) * products[n][e] + half_bits_to_float(w[DRAWS * 8]) * products[n][2 + e];
        products[n][e] = products[n][2 + e] = 0.f;
      }
    }
    halve<DRAWS / 8>(v, lane, 16);
    halve<DRAWS / 16>(v, lane, 8);
    halve<DRAWS / 32>(v, lane, 4);
#pragma unroll
    for (int k = 0; k < DRAWS / 32; ++k) totals[k] += (double)v[k];
  }

  __device__ __forceinline__ void write(double* out, int lane) {
    const int row = lane >> 2, first = ((row >> 2) & 1) * (DRAWS / 16) + ((row >> 1) & 1) * (DRAWS / 32) + (row & 1) * (DRAWS / 64);
#pragma unroll
    for (int k = 0; k < DRAWS / 32; ++k) {
      out[(first + k / 2) * 8 + 2 * (lane & 3) + (k & 1)] = totals[k];
      totals[k] = 0.0;
    }
  }
};
#endif

extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS)
pair_sums(const unsigned char* __restrict__ left, const unsigned char* __restrict__ right,
          const RowsInfo* __restrict__ infos, const float* __restrict__ norms, const int* __restrict__ fragment_group,
          const int* __restrict__ padded_offsets, const int* __restrict__ shifts, const Task* __restrict__ tasks,
          const float* __restrict__ cells, int n_columns, const CellsInfo* __restrict__ about,
          double* __restrict__ partial, const unsigned char* __restrict__ weights) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Task task = tasks[blockIdx.x];
  const int begin = padded_offsets[task.group_begin] / FRAGMENT, end = padded_offsets[task.group_end] / FRAGMENT;
  const int first_tile = begin / FRAGMENTS, last_tile = (end - 1) / FRAGMENTS;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int row_fragment = (task.tile * WARPS + warp) * WARP_FRAGMENTS;
  const int n_groups = task.group_end - task.group_begin;

  auto load = [&](int stage, int tile) {
    unsigned char* to = shared + stage * STAGE_BYTES;
    const unsigned char* from = right + (i64)tile * COLUMN_BYTES;
    for (int t = threadIdx.x; t < COLUMN_BYTES / 16; t += 32 * WARPS) copy16(to + t * 16, from + t * 16);
    const unsigned char* from_weights = weights + (i64)tile * WEIGHT_BYTES;
    for (int t = threadIdx.x; t < WEIGHT_BYTES / 16; t += 32 * WARPS) copy16(to + COLUMN_BYTES + t * 16, from_weights + t * 16);
  };
  for (int s = 0; s < STAGES - 1; ++s) {
    if (first_tile + s <= last_tile) load(s, first_tile + s);
    commit_copies();
  }

  u32 a[WARP_FRAGMENTS][CHUNKS][2];
  float bound[WARP_FRAGMENTS];
  [[maybe_unused]] float mask[WARP_FRAGMENTS][2];
  int n_valid[WARP_FRAGMENTS];
#pragma unroll
  for (int m = 0; m < WARP_FRAGMENTS; ++m) {
    const int fragment = row_fragment + m, row = fragment * FRAGMENT + (lane >> 2);
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        a[m][c][h] = reinterpret_cast<const u32*>(left + ((i64)fragment * 2 + h) * BLOCK_BYTES + c * 128)[lane];
    n_valid[m] = (int)(infos[fragment >> 3].valid >> (8 * (fragment & 7))) & 255;
    mask[m][0] = (lane >> 2) < n_valid[m] ? 1.f : 0.f;
    mask[m][1] = (lane >> 2) + 8 < n_valid[m] ? 1.f : 0.f;
    bound[m] = CLOSENESS * fmaxf(norms[row], norms[row + 8]);
  }

#if DRAWS > 0
  Weighted weighted;
  const float typical = about->typical;
#else
  double total[WARP_FRAGMENTS];
#pragma unroll
  for (int m = 0; m < WARP_FRAGMENTS; ++m) total[m] = 0.0;
#endif
  int group = task.group_begin;
  for (int tile = first_tile, k = 0; tile <= last_tile; ++tile, ++k) {
    wait_copies<STAGES - 2>();
    __syncthreads();  // the stage is there for all, and all have left the one before
    if (tile + STAGES - 1 <= last_tile) load((k + STAGES - 1) % STAGES, tile + STAGES - 1);
    commit_copies();
    const unsigned char* columns = shared + (k % STAGES) * STAGE_BYTES;
    const RowsInfo info = infos[tile * COLUMNS / 128];
    const int first_bit = tile * FRAGMENTS % 8;
    const int from = max(begin - tile * FRAGMENTS, 0), to = min(end - tile * FRAGMENTS, FRAGMENTS);
    const float column_bound = CLOSENESS * info.largest;
#pragma unroll 1
    for (int f = from; f < to; ++f) {
      float d[WARP_FRAGMENTS][8];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        u32 b[(CHUNKS + 3) / 4][4];
#pragma unroll
        for (int c = 0; c < (CHUNKS + 3) / 4; ++c) load_matrices(b[c], columns + (2 * f + n) * BLOCK_BYTES + c * 512, lane);
#pragma unroll
        for (int m = 0; m < WARP_FRAGMENTS; ++m) {
          float acc[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
          for (int s = 0; s < STEPS; ++s) {
            const int x = LEFT_FIRST(s), x2 = x + LEFT_DISTANCE(s), y = RIGHT_FIRST(s), y2 = y + RIGHT_DISTANCE(s);
            mma(acc, a[m][x][0], a[m][x][1], a[m][x2][0], a[m][x2][1], b[y / 4][y % 4], b[y2 / 4][y2 % 4]);
          }
#pragma unroll
          for (int q = 0; q < 4; ++q) d[m][4 * n + q] = acc[q];
        }
      }
      const int bit = first_bit + f;
      const int n = (int)(info.valid >> (8 * bit)) & 255;
      const bool last = (info.last >> bit) & 1;
#pragma unroll
      for (int m = 0; m < WARP_FRAGMENTS; ++m) {
        const float nearest = fminf(fminf(fminf(d[m][0], d[m][1]), fminf(d[m][2], d[m][3])),
                                    fminf(fminf(d[m][4], d[m][5]), fminf(d[m][6], d[m][7])));
#pragma unroll
        for (int q = 0; q < 8; ++q) d[m][q] = root(d[m][q]);
        if (nearest < bound[m] + column_bound)
          exact_distances(cells, n_columns, about,
                          (i64)(row_fragment + m) * FRAGMENT + shifts[fragment_group[row_fragment + m]], lane >> 2,
                          n_valid[m], (i64)(tile * FRAGMENTS + f) * FRAGMENT + shifts[group], 2 * (lane & 3), n, d[m]);
#if DRAWS > 0
#pragma unroll
        for (int q = 0; q < 8; ++q) d[m][q] -= typical;
        weighted.add(d[m], columns + COLUMN_BYTES + f * (DRAWS * 32), lane);
#else
        if (n < FRAGMENT) {
#pragma unroll
          for (int q = 0; q < 8; ++q)
            if (2 * (lane & 3) + (q & 1) + 8 * (q >> 2) >= n) d[m][q] = 0.f;
        }
        const float above = (d[m][0] + d[m][1]) + (d[m][4] + d[m][5]), below = (d[m][2] + d[m][3]) + (d[m][6] + d[m][7]);
        total[m] += (double)fmaf(mask[m][1], below, mask[m][0] * above);
#endif
      }
#if DRAWS > 0
      if (last || (tile * FRAGMENTS + f + 1) % (TOGETHER / FRAGMENT) == 0)
        weighted.add_rows(weights + (i64)row_fragment * (DRAWS * 32), lane);
      if (last) weighted.write(partial + (task.slot + (i64)warp * n_groups + (group - task.group_begin)) * DRAWS, lane);
#else
      if (last) {
#pragma unroll
        for (int m = 0; m < WARP_FRAGMENTS; ++m) {
          const double of_group = warp_sum(total[m]);
          total[m] = 0.0;
          if (lane == 0)
            partial[task.slot + (i64)(warp * WARP_FRAGMENTS + m) * n_groups + (group - task.group_begin)] = of_group;
        }
      }
#endif
      group += last;
    }
  }
}
