// Sums over a block of threads in a fixed order. A block has at most 32 warps, all full.
#define EVERY_LANE 0xffffffffu

struct Sum {
  static __device__ __forceinline__ double start() { return 0.0; }
  static __device__ __forceinline__ double join(double a, double b) { return a + b; }
};
struct Least {
  static __device__ __forceinline__ double start() { return __longlong_as_double(0x7ff0000000000000LL); }
  static __device__ __forceinline__ double join(double a, double b) { return fmin(a, b); }
};

struct BlockScratch {
  double partial[8 * 32];
  double result[8];
};

template <typename Operation, int N>
__device__ __forceinline__ void join_warp(double (&values)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k)
#pragma unroll
    for (int s = 16; s > 0; s >>= 1) values[k] = Operation::join(values[k], __shfl_xor_sync(EVERY_LANE, values[k], s));
}

// Join N values of all threads; the first warp has the results. One barrier: the next use needs another before it.
template <typename Operation, int N>
__device__ __forceinline__ void join_in_first_warp(double (&values)[N], BlockScratch& scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
  join_warp<Operation>(values);
  if (lane == 0)
#pragma unroll
    for (int k = 0; k < N; ++k) scratch.partial[k * 32 + warp] = values[k];
  __syncthreads();
  if (warp == 0) {
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = lane < n_warps ? scratch.partial[k * 32 + lane] : Operation::start();
    join_warp<Operation>(values);
  }
}

// Join N values of all threads; every thread has the results.
template <typename Operation, int N>
__device__ __forceinline__ void join_block(double (&values)[N], BlockScratch& scratch) {
  join_in_first_warp<Operation>(values, scratch);
  if (threadIdx.x == 0)
#pragma unroll
    for (int k = 0; k < N; ++k) scratch.result[k] = values[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] = scratch.result[k];
}
