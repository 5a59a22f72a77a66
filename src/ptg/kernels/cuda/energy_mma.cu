// Sums of Euclidean distances between groups of cells, float32 accuracy, on tensor cores from sm_80 on.
//
//   S[a, b] = sum_{i in a, j in b} d(i, j), and with DRAWS also S[a, b, r] = sum w_ri w_rj d(i, j) (energy_weights.cuh)
//
// d(i, j) is the root of one product (energy_common.cuh). Thread map: a warp keeps 16 * WARP_FRAGMENTS rows in registers;
// tiles of columns stream past the block by cp.async, STAGES deep. One partial sum per (16 rows, group of columns[, draw]),
// in fixed order, without atomics, the same whatever the task.
#include "energy_common.cuh"

#ifndef COLUMNS
#define COLUMNS 64
#endif
#ifndef STAGES
#define STAGES 3
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
#include "energy_weights.cuh"

#define WARPS 8
#define FRAGMENTS (COLUMNS / FRAGMENT)
#define COLUMN_BYTES (COLUMNS / 8 * BLOCK_BYTES)
#define WEIGHT_BYTES (COLUMNS / 8 * DRAWS * 16)
#define STAGE_BYTES (COLUMN_BYTES + WEIGHT_BYTES)

// Of 8 values in the order of two m16n8 fragments: those of the first or of the second row.
template <int half>
__device__ __forceinline__ float sum_of_row(const float (&v)[8]) {
  return (v[2 * half] + v[2 * half + 1]) + (v[2 * half + 4] + v[2 * half + 5]);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS)
pair_sums(const unsigned char* __restrict__ left, const unsigned char* __restrict__ right,
          const RowsInfo* __restrict__ infos, const float* __restrict__ norms, const int* __restrict__ fragment_group,
          const int* __restrict__ padded_offsets, const int* __restrict__ shifts, const Task* __restrict__ tasks,
          const float* __restrict__ cells, int n_columns, const CellsInfo* __restrict__ about,
          PartialSum* __restrict__ partial, const unsigned char* __restrict__ weights, double* __restrict__ weighted_partial) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Task task = tasks[blockIdx.x];
  const int begin = padded_offsets[task.group_begin] / FRAGMENT, end = padded_offsets[task.group_end] / FRAGMENT;
  const int first_tile = begin / FRAGMENTS, last_tile = (end - 1) / FRAGMENTS;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int row_fragment = task.fragment + warp * WARP_FRAGMENTS;
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
  float bound[WARP_FRAGMENTS], mask[WARP_FRAGMENTS][2], size[WARP_FRAGMENTS][2];
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
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      mask[m][h] = (lane >> 2) + 8 * h < n_valid[m] ? 1.f : 0.f;
      size[m][h] = mask[m][h] * (norms[row + 8 * h] + 1.f);
    }
    bound[m] = CLOSENESS * fmaxf(norms[row], norms[row + 8]);
  }

#if DRAWS > 0
  Weighted weighted;
#endif
  double total[WARP_FRAGMENTS];
  float sensitivity[WARP_FRAGMENTS];
#pragma unroll
  for (int m = 0; m < WARP_FRAGMENTS; ++m) {
    total[m] = 0.0;
    sensitivity[m] = 0.f;
  }
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
        float inverse[8];
#pragma unroll
        for (int q = 0; q < 8; ++q) {
          inverse[q] = inverse_root(d[m][q]);
          d[m][q] *= inverse[q];
        }
        const bool is_close = nearest <= bound[m] + column_bound;
        const int n_close = __popc(__ballot_sync(0xffffffffu, is_close));
        if (n_close >= MANY) sensitivity[m] = INFINITELY;
        if (is_close) {
#pragma unroll
          for (int q = 0; q < 8; ++q) d[m][q] = inverse[q] = 0.f;
        }
        if (is_close && n_close < MANY)
          exact_distances(cells, n_columns, about,
                          (i64)(row_fragment + m) * FRAGMENT + shifts[fragment_group[row_fragment + m]], lane >> 2,
                          n_valid[m], (i64)(tile * FRAGMENTS + f) * FRAGMENT + shifts[group], 2 * (lane & 3), n, d[m]);
        if (n < FRAGMENT) {
#pragma unroll
          for (int q = 0; q < 8; ++q)
            if (2 * (lane & 3) + (q & 1) + 8 * (q >> 2) >= n) d[m][q] = inverse[q] = 0.f;
        }
        total[m] += (double)fmaf(mask[m][1], sum_of_row<1>(d[m]), mask[m][0] * sum_of_row<0>(d[m]));
        sensitivity[m] += fmaf(size[m][1], sum_of_row<1>(inverse), size[m][0] * sum_of_row<0>(inverse));
#if DRAWS > 0
        weighted.add(d[m], columns + COLUMN_BYTES + f * (DRAWS * 32), lane);
#endif
      }
#if DRAWS > 0
      if (last || (tile * FRAGMENTS + f + 1) % (TOGETHER / FRAGMENT) == 0)
        weighted.add_rows(weights + (i64)row_fragment * (DRAWS * 32), lane);
      if (last) weighted.write(weighted_partial + (task.slot + (i64)warp * n_groups + (group - task.group_begin)) * DRAWS, lane);
#endif
      if (last) {
#pragma unroll
        for (int m = 0; m < WARP_FRAGMENTS; ++m) {
          const PartialSum sum = {warp_sum(total[m]), (double)warp_sum(sensitivity[m])};
          total[m] = 0.0;
          sensitivity[m] = 0.f;
          if (lane == 0)
            partial[task.slot + (i64)(warp * WARP_FRAGMENTS + m) * n_groups + (group - task.group_begin)] = sum;
        }
      }
      group += last;
    }
  }
}
