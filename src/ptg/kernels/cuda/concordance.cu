// Concordant less discordant pairs of columns of two rows.
//
//   out[p] = sum_{i < j} sign(x_i - x_j) sign(y_i - y_j),  x = values[left[p]], y = values[right[p]]
//
// A warp takes a pair of rows: column i goes from first to last, its lanes share out the columns after it. Sums of
// integers: exact in any order.
typedef long long i64;

__device__ __forceinline__ int sign(double a, double b) { return (a > b) - (a < b); }

//   values   (n_rows, n_columns)
extern "C" __global__ void concordance(const double* __restrict__ values, const i64* __restrict__ left,
                                       const i64* __restrict__ right, i64 n_pairs, int n_columns,
                                       i64* __restrict__ out) {
  const i64 pair = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (pair >= n_pairs) return;  // for the whole warp
  const int lane = threadIdx.x & 31;
  const double* x = values + left[pair] * n_columns;
  const double* y = values + right[pair] * n_columns;
  i64 total = 0;
  for (int i = 0; i < n_columns - 1; ++i) {
    const double a = x[i], b = y[i];
    int sum = 0;  // at most n_columns / 32
    for (int j = i + 1 + lane; j < n_columns; j += 32) sum += sign(a, x[j]) * sign(b, y[j]);
    total += sum;
  }
#pragma unroll
  for (int k = 16; k > 0; k >>= 1) total += __shfl_xor_sync(0xffffffffu, total, k);
  if (lane == 0) out[pair] = total;
}
