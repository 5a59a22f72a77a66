// Standard deviations of costs from moments of the groups. With u, v centred on any points, whose difference is d, and
// E u, E v their means,
//
//   var(C) = var(|u|^2 + 2 (d - E v) u) + var(|v|^2 - 2 (d + E u) v) + 4 tr(cov(u) cov(v))
//
// Cells are double, in panels of up to PANEL columns; wide cells add up over all pairs of panels.
#include "block_sums.cuh"

typedef long long i64;

#define PANEL 64
#define LANES 4
#define CHUNK 16

// Mean of the squared norms h of every set, and their variance. A block takes a set.
extern "C" __global__ void norm_moments(const i64* __restrict__ set_offsets, const int* __restrict__ place_cell,
                                        const double* __restrict__ mass, const double* __restrict__ norm,
                                        double* __restrict__ mean, double* __restrict__ variance) {
  __shared__ BlockScratch scratch;
  const i64 begin = set_offsets[blockIdx.x] + threadIdx.x, end = set_offsets[blockIdx.x + 1];
  double sum[1] = {0.0}, squares[1] = {0.0};
  for (i64 place = begin; place < end; place += blockDim.x) sum[0] += mass[place] * norm[place_cell[place]];
  join_block<Sum>(sum, scratch);
  for (i64 place = begin; place < end; place += blockDim.x) {
    const double gap = norm[place_cell[place]] - sum[0];
    squares[0] += mass[place] * gap * gap;
  }
  __syncthreads();
  join_block<Sum>(squares, scratch);
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = sum[0];
    variance[blockIdx.x] = squares[0];
  }
}

// Covariance of u and h for every set, (n_sets, stride). A block of PANEL x LANES threads takes a set.
extern "C" __global__ void norm_covariances(const i64* __restrict__ set_offsets, const int* __restrict__ place_cell,
                                            const double* __restrict__ mass, const double* __restrict__ cells,
                                            int stride, const double* __restrict__ mean,
                                            const double* __restrict__ norm, const double* __restrict__ norm_mean,
                                            double* __restrict__ out) {
  __shared__ double sums[LANES][PANEL];
  const int k = threadIdx.x, lane = threadIdx.y;
  const i64 begin = set_offsets[blockIdx.x], end = set_offsets[blockIdx.x + 1];
  double sum = 0.0;
  if (k < stride) {
    const double own = mean[(i64)blockIdx.x * stride + k], of_norm = norm_mean[blockIdx.x];
    for (i64 place = begin + lane; place < end; place += LANES) {
      const i64 cell = place_cell[place];
      sum += mass[place] * (cells[cell * stride + k] - own) * (norm[cell] - of_norm);
    }
  }
  sums[lane][k] = sum;
  __syncthreads();
  if (lane > 0 || k >= stride) return;
  for (int other = 1; other < LANES; ++other) sum += sums[other][k];
  out[(i64)blockIdx.x * stride + k] = sum;
}

// Covariance of two panels for every set, (n_sets, PANEL, PANEL). A block of 256 threads takes a set, a thread 4 x 4 of
// it.
extern "C" __global__ void covariances(const i64* __restrict__ set_offsets, const int* __restrict__ place_cell,
                                       const double* __restrict__ mass, const double* __restrict__ left, int left_stride,
                                       const double* __restrict__ left_mean, const double* __restrict__ right,
                                       int right_stride, const double* __restrict__ right_mean,
                                       double* __restrict__ out) {
  __shared__ double x[CHUNK][PANEL];
  __shared__ double y[CHUNK][PANEL];
  const i64 set = blockIdx.x, begin = set_offsets[set], end = set_offsets[set + 1];
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
  double sum[4][4] = {};
  for (i64 chunk = begin; chunk < end; chunk += CHUNK) {
    __syncthreads();
    for (int t = threadIdx.x; t < CHUNK * PANEL; t += blockDim.x) {
      const int i = t / PANEL, k = t % PANEL;
      const i64 place = chunk + i;
      const bool inside = place < end;
      const i64 cell = inside ? place_cell[place] : 0;
      x[i][k] = inside && k < left_stride
                    ? mass[place] * (left[cell * left_stride + k] - left_mean[set * left_stride + k]) : 0.0;
      y[i][k] = inside && k < right_stride ? right[cell * right_stride + k] - right_mean[set * right_stride + k] : 0.0;
    }
    __syncthreads();
    for (int i = 0; i < CHUNK; ++i)
#pragma unroll
      for (int a = 0; a < 4; ++a)
#pragma unroll
        for (int b = 0; b < 4; ++b) sum[a][b] += x[i][ty + 16 * a] * y[i][tx + 16 * b];
  }
#pragma unroll
  for (int a = 0; a < 4; ++a)
#pragma unroll
    for (int b = 0; b < 4; ++b) out[(set * PANEL + ty + 16 * a) * PANEL + tx + 16 * b] = sum[a][b];
}

// What two panels add to the variance of the cost of every pair, but for var(h). A block takes a pair.
//   sets              (n_pairs, 2)
//   covariance        (n_sets, PANEL, PANEL) of the two panels
//   norm_covariance   of the left panel, for panels that are one and the same
extern "C" __global__ void pair_variances(const int* __restrict__ sets, int n_groups, int left_stride,
                                          const double* __restrict__ left_centre, const double* __restrict__ left_mean,
                                          int right_stride, const double* __restrict__ right_centre,
                                          const double* __restrict__ right_mean, const double* __restrict__ covariance,
                                          const double* __restrict__ norm_covariance, int same, int joins,
                                          double* __restrict__ variance) {
  __shared__ BlockScratch scratch;
  __shared__ double gap[4][PANEL];  // d - E v and d + E u, of the left panel and the right one
  const i64 pair = blockIdx.x, u = sets[2 * pair], v = sets[2 * pair + 1];
  const i64 of_u = u % n_groups, of_v = v % n_groups;
  double sum[1] = {0.0};
  for (int k = threadIdx.x; k < PANEL; k += blockDim.x) {
    const bool in_left = k < left_stride, in_right = k < right_stride;
    const double d = in_left ? left_centre[of_u * left_stride + k] - left_centre[of_v * left_stride + k] : 0.0;
    const double e = in_right ? right_centre[of_u * right_stride + k] - right_centre[of_v * right_stride + k] : 0.0;
    gap[0][k] = in_left ? d - left_mean[v * left_stride + k] : 0.0;
    gap[1][k] = in_left ? d + left_mean[u * left_stride + k] : 0.0;
    gap[2][k] = in_right ? e - right_mean[v * right_stride + k] : 0.0;
    gap[3][k] = in_right ? e + right_mean[u * right_stride + k] : 0.0;
    if (same && in_left)
      sum[0] += 4.0 * (gap[0][k] * norm_covariance[u * left_stride + k] - gap[1][k] * norm_covariance[v * left_stride + k]);
  }
  __syncthreads();
  const double times = same ? 4.0 : 8.0;  // the mirrored pair of panels is not visited
  for (int at = threadIdx.x; at < PANEL * PANEL; at += blockDim.x) {
    const int k = at / PANEL, l = at % PANEL;
    const double x = covariance[u * PANEL * PANEL + at], y = covariance[v * PANEL * PANEL + at];
    sum[0] += times * (x * y + x * gap[0][k] * gap[2][l] + y * gap[1][k] * gap[3][l]);
  }
  join_block<Sum>(sum, scratch);
  if (threadIdx.x == 0) variance[pair] = (joins ? variance[pair] : 0.0) + sum[0];
}
