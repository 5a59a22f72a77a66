// Sums of Euclidean distances between groups of cells, float32 accuracy, on the tensor cores of sm_90a.
//
//   S[a, b] = sum_{i in a, j in b} sqrt(|x_i|^2 + |x_j|^2 - 2 x_i.x_j)
//
// Layout. Rows are sorted by group, each group padded to a multiple of 16 rows, so that every 16 x 8 fragment belongs to
// one pair of groups. A row is 64 values, each the sum of two halves (22 bits); hi.hi + hi.lo + lo.hi are accumulated in
// float32 by wgmma m64n128k16, the small products first.
// Thread map. A block of two warpgroups holds 128 rows in shared memory, 64 a warpgroup; columns stream through two
// stages of 128 by cp.async, both operands in the 128-byte swizzle. Two blocks share a multiprocessor: one multiplies
// while the other takes square roots. Sums are float32 within 128 columns, then float64; a warp reduces
// them where a column group ends and writes one partial sum per (16 rows, column group): no atomics, fixed order.
// Measured on an H200, 310,000 cells in 2,058 groups, 50 of 64 columns used, pairs/s:
//   mma.sync m16n8k16, 32 rows a warp                     8.9e11
//   wgmma m64n64k16, rows in registers                    1.13e12  (more rows a block, more stages: the same)
//   this: m64n128k16, rows in shared memory               1.26e12  (1.86e12 without the square roots)
#include "energy_common.cuh"

#define WIDTH 64  // values in a row: one swizzled line of 128 bytes
#ifndef STEPS
#define STEPS 4   // of 16 values that are not all padding
#endif
#define COLUMNS 128
#define ROWS 128
#define THREADS 256
#define LINES (COLUMNS * 128)  // bytes of one half of a tile

__device__ __forceinline__ u64 descriptor(u32 shared) {
  return (u64)((shared & 0x3FFFF) >> 4) | ((u64)1 << 16) | ((u64)64 << 32) | ((u64)1 << 62);
}

__device__ __forceinline__ void wgmma(float (&d)[64], u64 a, u64 b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
      " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
      ", %64, %65, p, 1, 1, 0, 0;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
        "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(a), "l"(b), "r"(accumulate));
}

// Place 128 rows, from `first` on, into the swizzled lines at `shared`: hi, then lo.
__device__ __forceinline__ void load_rows(u32 shared, const u16* hi, const u16* lo, int first, int n_rows) {
  for (int t = threadIdx.x; t < COLUMNS * 8; t += THREADS) {
    const int c = t >> 3, k = t & 7;
    const i64 from = (i64)min(first + c, n_rows - 1) * WIDTH + k * 8;
    const u32 to = shared + (u32)(c * 128 + ((k ^ (c & 7)) << 4));
    copy16(to, hi + from);
    copy16(to + LINES, lo + from);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
pair_sums(const u16* __restrict__ hi, const u16* __restrict__ lo, const float* __restrict__ norm,
          const int* __restrict__ fragment_group, const int* __restrict__ padded_offsets,
          const Task* __restrict__ tasks, double* __restrict__ partial, int n_rows) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const u32 unaligned = static_cast<u32>(__cvta_generic_to_shared(shared));
  const u32 columns_at = (unaligned + 1023u) & ~1023u;  // [2 stages][hi, lo][COLUMNS lines]
  const u32 rows_at = columns_at + 4 * LINES;           // [hi, lo][ROWS lines]
  float* column_norm = reinterpret_cast<float*>(shared + (columns_at - unaligned) + 6 * LINES);  // [2][COLUMNS]

  const Task task = tasks[blockIdx.x];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int first_row = task.tile * ROWS + warp * 16;
  const int row = first_row + (lane >> 2);  // and row + 8
  const int row_group = first_row < n_rows ? fragment_group[first_row >> 4] : -1;
  const float row_norm[2] = {row < n_rows ? norm[row] : -INFINITE, row + 8 < n_rows ? norm[row + 8] : -INFINITE};
  const int begin = padded_offsets[task.group_begin], end = padded_offsets[task.group_end];

  auto load = [&](int stage, int column) {
    load_rows(columns_at + stage * 2 * LINES, hi, lo, column, n_rows);
    if (threadIdx.x < COLUMNS) {
      const int j = column + threadIdx.x;
      column_norm[stage * COLUMNS + threadIdx.x] = j < end ? norm[j] : -INFINITE;
    }
    asm volatile("cp.async.commit_group;");
  };

  double total = 0.0;
  int group = task.group_begin, group_end = padded_offsets[group + 1];
  auto flush = [&]() {
    const double sum = warp_sum(total);
    if (lane == 0) partial[task.slot + (i64)warp * (task.group_end - task.group_begin) + (group - task.group_begin)] = sum;
    total = 0.0;
  };

  load_rows(rows_at, hi, lo, task.tile * ROWS, n_rows);
  load(0, begin);
  const u32 a_at = rows_at + (warp >> 2) * 64 * 128;
  int stage = 0;
  for (int column = begin; column < end; column += COLUMNS, stage ^= 1) {
    asm volatile("cp.async.wait_group 0;");
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();  // and every thread has left the other stage behind
    if (column + COLUMNS < end) load(stage ^ 1, column + COLUMNS);

    float acc[64];
    const u32 b_at = columns_at + stage * 2 * LINES;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
      wgmma(acc, descriptor(a_at + LINES + k * 32), descriptor(b_at + k * 32), k > 0);
      wgmma(acc, descriptor(a_at + k * 32), descriptor(b_at + LINES + k * 32), 1);
    }
#pragma unroll
    for (int k = 0; k < STEPS; ++k) wgmma(acc, descriptor(a_at + k * 32), descriptor(b_at + k * 32), 1);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");

    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; ++j) {
      const int c = column + j * 8;
      if ((j & 1) == 0 && c >= group_end) {  // groups end at multiples of 16
        if (c >= end) break;
        total += sum;
        sum = 0.f;
        do {
          flush();
          ++group;
          group_end = padded_offsets[group + 1];
        } while (c >= group_end);
      }
      const float2 norms = *reinterpret_cast<const float2*>(column_norm + stage * COLUMNS + j * 8 + (lane & 3) * 2);
      float d[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) d[q] = fmaf(-2.f, acc[j * 4 + q], row_norm[q >> 1] + ((q & 1) ? norms.y : norms.x));
      const float nearest = fminf(fminf(d[0], d[1]), fminf(d[2], d[3]));
      // Rarely true: the cell itself, a near duplicate, or padding.
      if (nearest <= CLOSENESS * (fmaxf(row_norm[0], row_norm[1]) + fmaxf(norms.x, norms.y))) {
        const int b = c + (lane & 3) * 2;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          const float both = row_norm[q >> 1] + ((q & 1) ? norms.y : norms.x);
          const i64 i = row + (q >> 1) * 8, jj = b + (q & 1);
          if (d[q] <= CLOSENESS * both && both > -INFINITE) {
            const float distance = i == jj ? 0.f : close_distance(hi, lo, i, jj, WIDTH);
            d[q] = distance * distance;
          }
        }
      }
      sum += (root(fmaxf(d[0], 0.f)) + root(fmaxf(d[1], 0.f))) + (root(fmaxf(d[2], 0.f)) + root(fmaxf(d[3], 0.f)));
    }
    total += sum;
  }
  flush();
}
