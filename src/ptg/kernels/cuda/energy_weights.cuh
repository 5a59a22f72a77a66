// Weighted sums of distances on tensor cores, for DRAWS vectors of weights at once, a multiple of 64.
//
//   sum_{i, j} w_ri d(i, j) w_rj, i one of 16 rows, j a column
//
// The accumulators of a 16 x 16 fragment of distances are, as two parts each, the left operand of a product with the weights
// of its columns, exact in halves up to 2048. Tensor cores cut sums off towards zero: after at most TOGETHER columns the
// 16 x DRAWS sums are multiplied by the weights of the rows and added over them, then kept in float64.
#ifndef TOGETHER
#define TOGETHER 64
#endif

#if DRAWS > 0
// Sums over the 16 rows of a fragment; a lane ends up with DRAWS / 32 of them.
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

  // The same with distances of any magnitude, at half the speed: halves lose digits below 2^-3.
  __device__ __forceinline__ void add_any(const float (&d)[8], const unsigned char* weights, int lane) {
    u32 hi[8], lo[8];
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      hi[q] = to_short_float(d[q]);
      lo[q] = to_short_float(d[q] - __int_as_float((int)hi[q]));
    }
#pragma unroll
    for (int n = 0; n < DRAWS / 8; n += 4) {
      u32 matrices[2][4];
      load_matrices(matrices[0], weights + n * 128, lane);
      load_matrices(matrices[1], weights + DRAWS * 16 + n * 128, lane);
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          // A lane's two neighbouring columns are values l % 4 and l % 4 + 4.
          const u32 both = matrices[h][q];
          const u32 even = (u32)__float_as_int(half_bits_to_float((u16)both));
          const u32 odd = (u32)__float_as_int(half_bits_to_float((u16)(both >> 16)));
          const int k = 4 * h;
          mma_short_floats(products[n + q], lo[k], lo[k + 2], lo[k + 1], lo[k + 3], even, odd);
          mma_short_floats(products[n + q], hi[k], hi[k + 2], hi[k + 1], hi[k + 3], even, odd);
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
