// Sums of Euclidean distances between groups of cells, float32 accuracy, on the tensor cores of sm_90a.
//
//   S[a, b] = sum_{i in a, j in b} sqrt(d2(i, j)), d2 from one product (energy_common.cuh)
//
// Thread map. A block holds 64 rows for each of its warpgroups in shared memory; tiles of columns, aligned to COLUMNS,
// stream past by bulk copies that one more warp issues, STAGES deep. A warpgroup multiplies a tile with wgmma and sums the
// roots of its accumulators, while others multiply.
// Sums. A thread adds its roots in float32 within a tile, then in float64. Where a group of columns ends, its sums wait in
// shared memory until the accumulators are free, and a warp adds them: one partial sum per (16 rows, group of columns), in
// fixed order, without atomics, the same whatever the task. A thread that sees a distance too small for the product leaves
// out its 8 of that fragment and computes them from the cells afterwards.
#include "energy_common.cuh"
#include "energy_wgmma.cuh"

#ifndef WARPGROUPS
#define WARPGROUPS 4
#endif
#ifndef STAGES
#define STAGES 4
#endif

#define COLUMNS 128
#define ROWS (64 * WARPGROUPS)
#define WARPS (4 * WARPGROUPS)
#define THREADS (32 * WARPS + 32)
#define FRAGMENTS (COLUMNS / FRAGMENT)
#define ROW_BYTES (ROWS / 8 * BLOCK_BYTES)
#define STAGE_BYTES (COLUMNS / 8 * BLOCK_BYTES)

// What a thread has of two rows: distances and their inverses.
struct RowSums {
  float distance[2] = {0.f, 0.f}, inverse[2] = {0.f, 0.f};

  // Add the roots of 8 squared distances where `counts`; or where one is not above the bound mark the fragment and add none.
  // Padding is never below the bound.
  template <typename Counts>
  __device__ __forceinline__ void add(const float* d, float bound, u32 fragment, Counts counts, u32& close) {
    const float nearest = fminf(fminf(fminf(d[0], d[1]), fminf(d[2], d[3])), fminf(fminf(d[4], d[5]), fminf(d[6], d[7])));
    const bool is_close = nearest <= bound;
    close |= is_close ? fragment : 0;
    float r[8];
#pragma unroll
    for (int q = 0; q < 8; ++q) r[q] = counts(q) ? inverse_root(d[q]) : 0.f;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float *x = d + 2 * h, *y = r + 2 * h;
      const float roots = fmaf(x[5], y[5], fmaf(x[4], y[4], fmaf(x[1], y[1], x[0] * y[0])));
      const float inverses = (y[0] + y[1]) + (y[4] + y[5]);
      distance[h] += is_close ? 0.f : roots;
      inverse[h] += is_close ? 0.f : inverses;
    }
  }

  // Both over the two rows, the inverses times what `size` says, and start again.
  __device__ __forceinline__ float2 take(const float (&mask)[2], const float (&size)[2]) {
    const float2 sums = {fmaf(mask[1], distance[1], mask[0] * distance[0]), fmaf(size[1], inverse[1], size[0] * inverse[0])};
    distance[0] = distance[1] = inverse[0] = inverse[1] = 0.f;
    return sums;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
pair_sums(const unsigned char* __restrict__ left, const unsigned char* __restrict__ right,
          const RowsInfo* __restrict__ info, const float* __restrict__ norms, const int* __restrict__ fragment_group,
          const int* __restrict__ padded_offsets, const int* __restrict__ shifts, const Task* __restrict__ tasks,
          const float* __restrict__ cells, int n_columns, const CellsInfo* __restrict__ about,
          PartialSum* __restrict__ partial) {
  extern __shared__ __align__(1024) unsigned char shared[];
  unsigned char* stages = shared + ROW_BYTES;
  float2* ended = reinterpret_cast<float2*>(stages + STAGES * STAGE_BYTES);  // [WARPS][FRAGMENTS][32]
  Barrier* full = reinterpret_cast<Barrier*>(ended + WARPS * FRAGMENTS * 32);
  Barrier* empty = full + STAGES;
  Barrier* rows_there = empty + STAGES;

  const Task task = tasks[blockIdx.x];
  const int begin = padded_offsets[task.group_begin] / FRAGMENT, end = padded_offsets[task.group_end] / FRAGMENT;
  const int first_tile = begin / FRAGMENTS, last_tile = (end - 1) / FRAGMENTS;
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;  // known to be uniform
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      init_barrier(full + s, 1);
      init_barrier(empty + s, WARPS);
    }
    init_barrier(rows_there, 1);
    publish_barriers();
  }
  __syncthreads();

  if (warp == WARPS) {
    if (lane == 0) {
      copy_bulk(shared, left + (i64)task.fragment * 2 * BLOCK_BYTES, ROW_BYTES, rows_there);
      for (int tile = first_tile, k = 0; tile <= last_tile; ++tile, ++k) {
        const int stage = k % STAGES;
        if (k >= STAGES) wait(empty + stage, (k / STAGES - 1) & 1);
        copy_bulk(stages + stage * STAGE_BYTES, right + (i64)tile * STAGE_BYTES, STAGE_BYTES, full + stage);
      }
    }
    return;
  }

  const int group_of_warps = warp >> 2;
  const int row_fragment = task.fragment + warp;
  const int row = row_fragment * FRAGMENT + (lane >> 2);  // and row + 8
  const int n_valid = (int)(info[row_fragment >> 3].valid >> (8 * (row_fragment & 7))) & 255;
  const float mask[2] = {(lane >> 2) < n_valid ? 1.f : 0.f, (lane >> 2) + 8 < n_valid ? 1.f : 0.f};
  const float size[2] = {mask[0] * (norms[row] + 1.f), mask[1] * (norms[row + 8] + 1.f)};
  const float row_bound = CLOSENESS * fmaxf(norms[row], norms[row + 8]);
  const u32 left_at = shared_address(shared) + group_of_warps * 8 * BLOCK_BYTES;
  float2* mine = ended + warp * FRAGMENTS * 32 + lane;
  const int n_groups = task.group_end - task.group_begin;
  PartialSum* out = partial + task.slot + (i64)warp * n_groups;

  double total = 0.0;
  float sensitivity = 0.f;
  int group = task.group_begin;
  wait(rows_there, 0);
  for (int tile = first_tile, k = 0; tile <= last_tile; ++tile, ++k) {
    const int stage = k % STAGES;
    wait(full + stage, (k / STAGES) & 1);
    float acc[COLUMNS / 2];
    const u32 right_at = shared_address(stages) + stage * STAGE_BYTES;
    __syncwarp();
    begin_products();
#pragma unroll
    for (int s = 0; s < STEPS; ++s)
      multiply(acc, operand(left_at, LEFT_FIRST(s) * 128, LEFT_DISTANCE(s) * 128, BLOCK_BYTES),
               operand(right_at, RIGHT_FIRST(s) * 128, RIGHT_DISTANCE(s) * 128, BLOCK_BYTES), s > 0);
    end_products();

    // While the product is under way: which fragments end a group, are partly padding, or belong to another task.
    const RowsInfo columns = info[tile];
    const float bound = fmaf(CLOSENESS, columns.largest, row_bound);
    const int from = max(begin - tile * FRAGMENTS, 0), to = min(end - tile * FRAGMENTS, FRAGMENTS);
    const u32 inside = ((1u << to) - 1) & ~((1u << from) - 1);
    const u32 special = columns.last | ~inside;  // padding is at the end of a group
    const u32 ends = columns.last & inside;

    wait_products();
    if (lane == 0) arrive(empty + stage);

    RowSums sums;
    u32 close = 0;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f) {
      if (!(special & (1u << f))) {
        sums.add(acc + 8 * f, bound, 1u << f, [](int) { return true; }, close);
      } else if (inside & (1u << f)) {
        const int n = (int)(columns.valid >> (8 * f)) & 255;
        sums.add(acc + 8 * f, bound, 1u << f, [&](int q) { return 2 * (lane & 3) + (q & 1) + 8 * (q >> 2) < n; }, close);
        if (ends & (1u << f)) mine[f * 32] = sums.take(mask, size);
      }
    }
    const float2 tail = sums.take(mask, size);

    const u32 any_close = __reduce_or_sync(0xffffffffu, close);
#pragma unroll 1
    for (u32 todo = ends | any_close; todo; todo &= todo - 1) {
      const int f = __ffs(todo) - 1;
      const bool is_close = (close >> f) & 1;
      if (__popc(__ballot_sync(0xffffffffu, is_close)) >= MANY) {
        sensitivity = INFINITELY;
      } else if (is_close) {
        const int n = (int)(columns.valid >> (8 * f)) & 255;
        float v[8];
        exact_distances(cells, n_columns, about,
                        (i64)row_fragment * FRAGMENT + (n_valid ? shifts[fragment_group[row_fragment]] : 0), lane >> 2,
                        n_valid, (i64)(tile * FRAGMENTS + f) * FRAGMENT + shifts[group], 2 * (lane & 3), n, v);
        for (int q = 0; q < 8; ++q)
          if (2 * (lane & 3) + (q & 1) + 8 * (q >> 2) < n) total += (double)(mask[(q >> 1) & 1] * v[q]);
      }
      if ((ends >> f) & 1) {
        const float2 ended_here = mine[f * 32];
        const PartialSum sum = {warp_sum(total + (double)ended_here.x), (double)warp_sum(sensitivity + ended_here.y)};
        total = 0.0;
        sensitivity = 0.f;
        if (lane == 0) out[group - task.group_begin] = sum;
        ++group;
      }
    }
    total += (double)tail.x;
    sensitivity += tail.y;
  }
}
