// Sums of distances from tiles of matrix products in float64: float64, sparse or wide cells, weights of any size, and older
// cards. A tile is the product of a block of rows with a block of columns, R x C, row-major.
typedef long long i64;

// |x - y| from x.y. A pair whose product has lost too many digits is computed from the difference of its rows.
__device__ __forceinline__ double distance(double product, const double* row_norm, const double* column_norm,
                                           const double* rows, const double* columns, i64 i, i64 j, int width,
                                           double closeness) {
  const double norms = row_norm[i] + column_norm[j];
  const double squared = norms - 2 * product;
  if (squared > closeness * norms) return sqrt(squared);
  double sum = 0.0;
  for (int k = 0; k < width; ++k) {
    const double d = rows[i * width + k] - columns[j * width + k];
    sum += d * d;
  }
  return sqrt(sum);
}

// out[pair, stripe] = sum of distances over 32 rows of a row segment and a column segment. A block takes one of them.
//   segments   (n_pairs, 4): row begin, row end, column begin, column end
extern "C" __global__ void segment_sums(const double* __restrict__ product, i64 ld, const double* __restrict__ row_norm,
                                        const double* __restrict__ column_norm, const double* __restrict__ rows,
                                        const double* __restrict__ columns, int width, double closeness,
                                        const int* __restrict__ segments, int n_stripes, double* __restrict__ out) {
  const int* s = segments + 4 * (i64)blockIdx.x;
  const int begin = s[0] + 32 * blockIdx.y, end = min(begin + 32, s[1]);
  double sum = 0.0;
  for (int i = begin; i < end; ++i)
    for (int j = s[2] + (int)threadIdx.x; j < s[3]; j += blockDim.x)
      sum += distance(product[i * ld + j], row_norm, column_norm, rows, columns, i, j, width, closeness);
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

// Turn products into distances, in place. A thread takes one.
extern "C" __global__ void distances(double* __restrict__ product, i64 n, i64 ld, const double* __restrict__ row_norm,
                                     const double* __restrict__ column_norm, const double* __restrict__ rows,
                                     const double* __restrict__ columns, int width, double closeness) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n)
    product[at] = distance(product[at], row_norm, column_norm, rows, columns, at / ld, at % ld, width, closeness);
}

// out[segment, stripe, draw] = sum of w_ri d_ij w_rj over 32 rows of a row segment and a column segment. A block takes 32
// draws of one of them; a thread the sums over columns of two rows and two draws.
//   distances      (n_rows, n_columns)
//   row_weights    (n_draws, n_rows), column_weights (n_draws, n_columns)
extern "C" __global__ void __launch_bounds__(256)
weighted_sums(const double* __restrict__ distances, int n_rows, int n_columns, const double* __restrict__ row_weights,
              const double* __restrict__ column_weights, const int* __restrict__ segments, int n_draws,
              double* __restrict__ out) {
  __shared__ double d[32][33], w[32][33];
  const int* s = segments + 4 * (i64)blockIdx.x;
  const int begin = s[0] + 32 * blockIdx.y, end = min(begin + 32, s[1]);
  const int first_draw = 32 * blockIdx.z;
  const int x = threadIdx.x & 15, y = threadIdx.x >> 4, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  double sums[2][2] = {{0.0, 0.0}, {0.0, 0.0}};  // [row y, y + 16][draw x, x + 16]
  for (int column = s[2]; column < s[3] && begin < end; column += 32) {
    const bool inside = column + lane < s[3];
    for (int k = warp; k < 32; k += 8) {
      d[k][lane] = inside && begin + k < end ? distances[(i64)(begin + k) * n_columns + column + lane] : 0.0;
      w[k][lane] = inside && first_draw + k < n_draws ? column_weights[(i64)(first_draw + k) * n_columns + column + lane] : 0.0;
    }
    __syncthreads();
#pragma unroll 8
    for (int j = 0; j < 32; ++j) {
      const double d0 = d[y][j], d1 = d[y + 16][j], w0 = w[x][j], w1 = w[x + 16][j];
      sums[0][0] = fma(d0, w0, sums[0][0]);
      sums[0][1] = fma(d0, w1, sums[0][1]);
      sums[1][0] = fma(d1, w0, sums[1][0]);
      sums[1][1] = fma(d1, w1, sums[1][1]);
    }
    __syncthreads();
  }
  for (int q = 0; q < 2; ++q) {
    const int draw = first_draw + x + 16 * q;
    double of_rows = 0.0;
    for (int h = 0; h < 2; ++h) {
      const int row = begin + y + 16 * h;
      if (row < end && draw < n_draws) of_rows += row_weights[(i64)draw * n_rows + row] * sums[h][q];
    }
    d[y][x + 16 * q] = of_rows;
  }
  __syncthreads();
  if (threadIdx.x < 32 && first_draw + (int)threadIdx.x < n_draws) {
    double total = 0.0;
    for (int k = 0; k < 16; ++k) total += d[k][threadIdx.x];
    out[((i64)blockIdx.x * gridDim.y + blockIdx.y) * n_draws + first_draw + threadIdx.x] = total;
  }
}

// out[draw, segment] = sum over stripes of parts[segment, stripe, draw], in order. A thread takes one.
extern "C" __global__ void add_stripes(const double* __restrict__ parts, int n_segments, int n_stripes, int n_draws,
                                       double* __restrict__ out) {
  const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (i64)n_segments * n_draws) return;
  const i64 draw = at / n_segments, segment = at % n_segments;
  double sum = 0.0;
  for (int k = 0; k < n_stripes; ++k) sum += parts[(segment * n_stripes + k) * n_draws + draw];
  out[at] = sum;
}
