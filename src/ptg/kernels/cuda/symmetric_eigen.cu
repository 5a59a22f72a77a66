// Eigenvalues and eigenvectors of many small symmetric matrices by Jacobi rotations; a block takes a matrix.
//
// A sweep rotates every pair (p, q) once. It has n - 1 rounds of n / 2 disjoint pairs (a round-robin tournament), and
// each round rotates all its columns, then all its rows. Eigenvectors are rows of `vectors`; values come largest first.
// Matrix and vectors are in shared memory where 16 n^2 bytes fit there, else in `work` (n_matrices, 2, n, n).
#include "block_sums.cuh"
typedef long long i64;

#define MOST_PAIRS 512
#define MOST_SWEEPS 40

struct Rotation {
  double cosine, sine;
  int p, q;
};

// The rotation of pair (p, q) that makes a[p, q] zero; none where it is negligible.
__device__ __forceinline__ Rotation rotation_of(const double* a, int n, int p, int q, double negligible) {
  Rotation r = {1.0, 0.0, p, q};
  if (q >= n) return r;  // the bye of an odd number
  const double off = a[(i64)p * n + q];
  if (fabs(off) <= negligible) return r;
  const double theta = (a[(i64)q * n + q] - a[(i64)p * n + p]) / (2.0 * off);
  const double tangent = copysign(1.0, theta) / (fabs(theta) + sqrt(1.0 + theta * theta));
  r.cosine = 1.0 / sqrt(1.0 + tangent * tangent);
  r.sine = tangent * r.cosine;
  return r;
}

__device__ __forceinline__ void rotate(double& x, double& y, const Rotation& r) {
  const double before = x;
  x = r.cosine * before - r.sine * y;
  y = r.sine * before + r.cosine * y;
}

extern "C" __global__ void __launch_bounds__(1024)
    symmetric_eigen(const double* __restrict__ matrices, int n, int in_shared, double* work,
                    double* __restrict__ values, double* __restrict__ vectors) {
  extern __shared__ double shared[];
  __shared__ BlockScratch scratch;
  __shared__ Rotation rotations[MOST_PAIRS];
  const i64 size = (i64)n * n;
  double* a = in_shared ? shared : work + blockIdx.x * 2 * size;
  double* v = a + size;
  const double* matrix = matrices + blockIdx.x * size;
  double norm[1] = {0.0};
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    const int i = e / n, j = e % n;
    a[e] = 0.5 * (matrix[e] + matrix[(i64)j * n + i]);
    v[e] = i == j ? 1.0 : 0.0;
    norm[0] += a[e] * a[e];
  }
  join_block<Sum>(norm, scratch);
  const double negligible = 1e-18 * sqrt(norm[0]);
  const int players = n + (n & 1), half = players / 2;
  for (int sweep = 0; sweep < MOST_SWEEPS; ++sweep) {
    double off[1] = {0.0};
    for (int e = threadIdx.x; e < size; e += blockDim.x)
      if (e / n < e % n) off[0] += a[e] * a[e];
    join_block<Sum>(off, scratch);
    if (off[0] <= 1e-33 * norm[0]) break;
    for (int round = 0; round < players - 1; ++round) {
      for (int k = threadIdx.x; k < half; k += blockDim.x) {
        const int x = k == 0 ? players - 1 : (round + k) % (players - 1);
        const int y = (round + players - 1 - k) % (players - 1);
        rotations[k] = rotation_of(a, n, min(x, y), max(x, y), negligible);
      }
      __syncthreads();
      for (int e = threadIdx.x; e < n * half; e += blockDim.x) {
        const Rotation r = rotations[e % half];
        double* row = a + (i64)(e / half) * n;
        if (r.sine != 0.0) rotate(row[r.p], row[r.q], r);
      }
      __syncthreads();
      for (int e = threadIdx.x; e < half * n; e += blockDim.x) {
        const Rotation r = rotations[e / n];
        const int j = e % n;
        if (r.sine == 0.0) continue;
        rotate(a[(i64)r.p * n + j], a[(i64)r.q * n + j], r);
        rotate(v[(i64)r.p * n + j], v[(i64)r.q * n + j], r);
        // Zero but for rounding.
        if (j == r.q) a[(i64)r.p * n + j] = 0.0;
        if (j == r.p) a[(i64)r.q * n + j] = 0.0;
      }
      __syncthreads();
    }
  }
  for (int i = threadIdx.x >> 5; i < n; i += blockDim.x >> 5) {
    const double value = a[(i64)i * n + i];
    int place = 0;
    for (int j = 0; j < n; ++j) {
      const double other = a[(i64)j * n + j];
      place += other > value || (other == value && j < i);
    }
    if ((threadIdx.x & 31) == 0) values[(i64)blockIdx.x * n + place] = value;
    for (int j = threadIdx.x & 31; j < n; j += 32)
      vectors[blockIdx.x * size + (i64)place * n + j] = v[(i64)i * n + j];
  }
}
