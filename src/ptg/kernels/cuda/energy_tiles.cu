// Sums of distances from tiles of matrix products: float64, sparse or wide cells, weights, and cards before sm_90.
// A tile is the product of a block of rows with a block of columns, R x C, row-major. `Value` is float or double.
typedef long long i64;

// |x - y| from x.y. A pair whose product has lost too many digits is computed from the difference of its rows.
template <typename Value>
__device__ __forceinline__ Value distance(Value product, const Value* row_norm, const Value* column_norm,
                                          const Value* rows, const Value* columns, i64 i, i64 j, int width,
                                          double closeness) {
  const Value norms = row_norm[i] + column_norm[j];
  const Value squared = norms - 2 * product;
  if (squared > (Value)closeness * norms) return sqrt(squared);
  double sum = 0.0;
  for (int k = 0; k < width; ++k) {
    const double d = (double)rows[i * width + k] - (double)columns[j * width + k];
    sum += d * d;
  }
  return (Value)sqrt(sum);
}

// out[pair, stripe] = sum of distances over 32 rows of a row segment and a column segment. A block takes one of them.
//   segments   (n_pairs, 4): row begin, row end, column begin, column end
template <typename Value>
__device__ void segment_sums(const Value* product, i64 ld, const Value* row_norm, const Value* column_norm,
                             const Value* rows, const Value* columns, int width, double closeness,
                             const int* segments, int n_stripes, double* out) {
  const int* s = segments + 4 * (i64)blockIdx.x;
  const int begin = s[0] + 32 * blockIdx.y, end = min(begin + 32, s[1]);
  double sum = 0.0;
  for (int i = begin; i < end; ++i)
    for (int j = s[2] + (int)threadIdx.x; j < s[3]; j += blockDim.x)
      sum += (double)distance(product[i * ld + j], row_norm, column_norm, rows, columns, i, j, width, closeness);
  __shared__ double shared[32];
#pragma unroll
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0.0;
    for (int k = 0; k < (int)(blockDim.x >> 5); ++k) total += shared[k];
    out[(i64)blockIdx.x * n_stripes + blockIdx.y] = total;
  }
}

// A double for every product. A thread takes one.
template <typename Value>
__device__ void distances(const Value* product, i64 n, i64 ld, const Value* row_norm, const Value* column_norm,
                          const Value* rows, const Value* columns, int width, double closeness, double* out) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n)
    out[at] = (double)distance(product[at], row_norm, column_norm, rows, columns, at / ld, at % ld, width, closeness);
}

#define EACH(Value, suffix)                                                                                            \
  extern "C" __global__ void segment_sums_##suffix(const Value* p, i64 ld, const Value* rn, const Value* cn,           \
                                                   const Value* rows, const Value* columns, int width, double close,   \
                                                   const int* segments, int n_stripes, double* out) {                  \
    segment_sums<Value>(p, ld, rn, cn, rows, columns, width, close, segments, n_stripes, out);                         \
  }                                                                                                                    \
  extern "C" __global__ void distances_##suffix(const Value* p, i64 n, i64 ld, const Value* rn, const Value* cn,       \
                                                const Value* rows, const Value* columns, int width, double close,      \
                                                double* out) {                                                         \
    distances<Value>(p, n, ld, rn, cn, rows, columns, width, close, out);                                              \
  }
EACH(float, float32)
EACH(double, float64)

// out[draw, b] = sum over column segment b of products[draw, j] * weights[draw, j]. A warp takes one.
//   bounds   (n_segments, 2)
extern "C" __global__ void weighted_sums(const double* __restrict__ products, const double* __restrict__ weights,
                                         i64 ld, const int* __restrict__ bounds, int n_segments, int n_draws,
                                         double* __restrict__ out) {
  const i64 task = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (task >= (i64)n_draws * n_segments) return;
  const i64 draw = task / n_segments, b = task % n_segments;
  double sum = 0.0;
  for (int j = bounds[2 * b] + (int)(threadIdx.x & 31); j < bounds[2 * b + 1]; j += 32)
    sum += products[draw * ld + j] * weights[draw * ld + j];
#pragma unroll
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if ((threadIdx.x & 31) == 0) out[task] = sum;
}
