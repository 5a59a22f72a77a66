// Shared by the energy kernels.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;  // the bits of a half
typedef long long i64;

#define INFINITE __int_as_float(0x7f800000)

// Part of a squared distance, relative to the squared norms, below which the product has lost too many digits.
#define CLOSENESS 0.00024414062f  // 2^-12

// A block's work: the rows of one tile against the columns of the groups [group_begin, group_end).
struct Task {
  int tile, group_begin, group_end, unused;
  i64 slot;  // first of (rows of the tile / 16) x (group_end - group_begin) partial sums
};

__device__ __forceinline__ float half_bits_to_float(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}

__device__ __forceinline__ u16 to_half_bits(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ float root(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
  for (int s = 16; s > 0; s >>= 1) v += __shfl_xor_sync(0xffffffffu, v, s);
  return v;
}

__device__ __forceinline__ void copy16(u32 shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global));
}

// The distance of two rows from the two halves of their values: for pairs so close that the product cannot tell.
__device__ __noinline__ float close_distance(const u16* hi, const u16* lo, i64 a, i64 b, int width) {
  float sum = 0.f;
  for (int k = 0; k < width; ++k) {
    const float d = (half_bits_to_float(hi[a * width + k]) - half_bits_to_float(hi[b * width + k])) +
                    (half_bits_to_float(lo[a * width + k]) - half_bits_to_float(lo[b * width + k]));
    sum += d * d;
  }
  return sqrtf(sum);
}
