// Shared by the energy kernels on tensor cores.
//
// Rows. Cells are centred and scaled by a power of two (largest value below 1024), sorted by group, and each group is
// padded to a multiple of 16 rows, a fragment. x = hi + lo, two halves (22 bits). The squared distance of two rows is one
// product of longer rows, whose spare columns bring the squared norms:
//   left    -2 lo    -2 hi    rest: -2 (lo, hi, hi) of the last columns, n1, n2, n3, 2^14, 2^3, 2^-8
//   right      hi       lo    rest:    (hi, lo, hi)                      2^14, 2^3, 2^-8, n1, n2, n3
// with |x|^2 = 2^14 n1 + 2^3 n2 + 2^-8 n3. EIGHTS chunks of 8 columns are whole, the others are in REST chunks.
// The product takes left lo . right hi and left hi . right lo first, then the first of left hi . right hi, then the norms,
// then what is left: tensor cores cut sums off towards zero, and so these stay small when two rows are close.
// Padding has value 0 and a norm larger than any, so that it is never close to anything.
//
// Accuracy. A squared distance is wrong by about 2e-7 of the two squared norms, always to the same side, so that averages
// are wrong, too. Where a single one is below CLOSENESS times the norms, it is computed from the difference of the rows.
// For the others a kernel sums, beside the distances d, the sensitivity (|x|^2 + 1) / d of each to the error of its square
// (1: values below 2^-3 have fewer digits), x being the row: where the column is much farther from the centre, d is as
// large. Pairs of groups whose sum is sensitive are computed again from differences (energy_differences.cu), and so are those
// with a fragment where MANY lanes of a warp see a close pair: infinitely sensitive, and their distances are left out.
//
// Layout. Blocks of 8 rows; in a block chunk after chunk; in a chunk 8 rows of 8 halves: 128 bytes, the 8 x 8 matrix of
// ldmatrix, mma and wgmma.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;  // the bits of a half
typedef long long i64;

#include "energy_tensor.cuh"

#ifndef EIGHTS
#define EIGHTS 6  // and 2 columns more: 50
#define REST 2
#endif

#define FRAGMENT 16
#define CHUNKS (2 * EIGHTS + REST)
#define BLOCK_BYTES (CHUNKS * 128)
#define STEPS (EIGHTS + (EIGHTS + REST) / 2)

// Step k of the product takes chunks FIRST and FIRST + DISTANCE of each side. Of the later half of the steps, the one with
// the norms is the second.
#define LATER(k) ((k) <= EIGHTS ? 0 : (k) == EIGHTS + 1 ? STEPS - EIGHTS - 1 : (k)-EIGHTS - 1)
#define LEFT_FIRST(k) ((k) < EIGHTS ? (k) : EIGHTS + 2 * LATER(k))
#define LEFT_DISTANCE(k) ((k) < EIGHTS ? EIGHTS : 1)
#define RIGHT_CHUNK(l) ((l) < EIGHTS ? (l) : (l) + EIGHTS)
#define RIGHT_FIRST(k) ((k) < EIGHTS ? (k) : RIGHT_CHUNK(2 * LATER(k)))
#define RIGHT_DISTANCE(k) ((k) < EIGHTS ? EIGHTS : RIGHT_CHUNK(2 * LATER(k) + 1) - RIGHT_CHUNK(2 * LATER(k)))

// Part of a squared distance, relative to the squared norms, below which the product has lost too many digits.
#define CLOSENESS 0.0009765625f  // 2^-10
#define MANY 16
#define INFINITELY __int_as_float(0x7f800000)

// A block's work: some fragments of rows against the columns of the groups [group_begin, group_end).
struct Task {
  int fragment, n_fragments, group_begin, group_end;
  i64 slot;  // first of n_fragments x (group_end - group_begin) partial sums
};

// What a block leaves for 16 rows and a group of columns.
struct PartialSum {
  double distance, sensitivity;
};

// What is known of 128 neighbouring rows, 8 fragments.
struct RowsInfo {
  u64 valid;      // a byte for each fragment: rows that are not padding, 0 past the last group
  u32 last;       // a bit for each fragment: the last of its group
  float largest;  // squared norm
};

// Of all cells.
struct CellsInfo {
  double factor;   // that they are scaled by
  float scale[2];  // two powers of two that make this factor
};

template <typename Value>
__device__ __forceinline__ Value warp_sum(Value v) {
#pragma unroll
  for (int s = 16; s > 0; s >>= 1) v += __shfl_xor_sync(0xffffffffu, v, s);
  return v;
}

// Distances, scaled, of rows a and a + 8 to columns b, b + 1, b + 8, b + 9 of a fragment, from their differences.
// `a` and `b` count cells; rows from `rows` on and columns from `columns` on are padding, whose distances mean nothing.
// Order as in two m16n8 fragments: (a, b), (a, b + 1), (a + 8, b), (a + 8, b + 1), then b + 8.
__device__ __forceinline__ void exact_distances(const float* __restrict__ cells, int n_columns, const CellsInfo* about,
                                                i64 first_row, int row, int n_rows, i64 first_column, int column,
                                                int n_of_columns, float (&out)[8]) {
  const float s0 = about->scale[0], s1 = about->scale[1];
  const float *x[2], *y[4];
#pragma unroll
  for (int q = 0; q < 2; ++q) x[q] = cells + (first_row + min(row + 8 * q, n_rows - 1)) * n_columns;
#pragma unroll
  for (int q = 0; q < 4; ++q) y[q] = cells + (first_column + min(column + (q & 1) + 8 * (q >> 1), n_of_columns - 1)) * n_columns;
#pragma unroll
  for (int q = 0; q < 8; ++q) out[q] = 0.f;
#pragma unroll 1
  for (int k = 0; k < n_columns; ++k) {
    const float xs[2] = {x[0][k], x[1][k]}, ys[4] = {y[0][k], y[1][k], y[2][k], y[3][k]};
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      const float d = (xs[(q >> 1) & 1] - ys[(q & 1) + 2 * (q >> 2)]) * s0 * s1;
      out[q] = fmaf(d, d, out[q]);
    }
  }
#pragma unroll
  for (int q = 0; q < 8; ++q) out[q] = root(out[q]);
}
