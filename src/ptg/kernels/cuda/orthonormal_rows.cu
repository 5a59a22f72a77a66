// Orthonormal rows from ROWS rows of each of many matrices, (n_matrices, ROWS, n); a block takes a matrix.
//
// Gram-Schmidt in coefficients: G = R R' is reduced to the identity by W, always with the longest row that is left, and
// R becomes W R. Rows whose squared length is no more than rounding by then are replaced. Sums have a fixed order.
#include "block_sums.cuh"
typedef long long i64;

#define ROWS 8
#define PRODUCTS (ROWS * (ROWS + 1) / 2)

struct Coefficients {
  double products[ROWS][ROWS];
  double weights[ROWS][ROWS];
  unsigned int left;  // rows that vanish
};

// A warp reduces the products; a lane takes a column. `smallest` is the squared length that a row must exceed.
__device__ __forceinline__ void reduce(Coefficients& c, double smallest) {
  const int lane = threadIdx.x & 31;
  unsigned int left = (1u << ROWS) - 1;
  if (lane < ROWS)
    for (int i = 0; i < ROWS; ++i) c.weights[i][lane] = i == lane ? 1.0 : 0.0;
  __syncwarp();
  while (left) {
    int pivot = -1;
    for (int i = 0; i < ROWS; ++i)
      if (left >> i & 1 && (pivot < 0 || c.products[i][i] > c.products[pivot][pivot])) pivot = i;
    const double squares = c.products[pivot][pivot];
    if (!(squares > smallest)) break;
    left &= ~(1u << pivot);
    const double scale = 1.0 / sqrt(squares);
    double shares[ROWS], own_share = 0.0, own_weight = 0.0;
    for (int i = 0; i < ROWS; ++i) shares[i] = c.products[i][pivot] * scale;
    if (lane < ROWS) {
      own_share = c.products[lane][pivot] * scale;
      own_weight = c.weights[pivot][lane] * scale;
    }
    __syncwarp();
    if (lane < ROWS) {
      c.weights[pivot][lane] = own_weight;
      for (int i = 0; i < ROWS; ++i)
        if (left >> i & 1) {
          c.products[i][lane] -= shares[i] * own_share;
          c.weights[i][lane] -= shares[i] * own_weight;
        }
    }
    __syncwarp();
  }
  if (lane == 0) c.left = left;
}

//   norms        (n_matrices,) lengths whose rounding, 1e-14 of them, is nothing; or null
//   smallest     squared length of a row that is nothing; relative to the longest row where there are norms
//   replacement  (n_matrices, ROWS, n) rows in place of those; zeros where it is null
extern "C" __global__ void __launch_bounds__(512)
    orthonormalise(double* rows, i64 n, const double* __restrict__ norms, double smallest,
                   const double* __restrict__ replacement) {
  __shared__ BlockScratch scratch;
  __shared__ Coefficients coefficients;
  double* own = rows + blockIdx.x * ROWS * n;
  double products[PRODUCTS];
#pragma unroll
  for (int k = 0; k < PRODUCTS; ++k) products[k] = 0.0;
  for (i64 column = threadIdx.x; column < n; column += blockDim.x) {
    double r[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) r[i] = own[i * n + column];
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j <= i; ++j) products[i * (i + 1) / 2 + j] += r[i] * r[j];
  }
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    double some[ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; ++j) some[j] = j <= i ? products[i * (i + 1) / 2 + j] : 0.0;
    join_block<Sum>(some, scratch);
    if (threadIdx.x == 0)
#pragma unroll
      for (int j = 0; j <= i; ++j) coefficients.products[i][j] = coefficients.products[j][i] = some[j];
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    double least = smallest;
    if (norms) {
      double longest = 0.0;
      for (int i = 0; i < ROWS; ++i) longest = fmax(longest, coefficients.products[i][i]);
      const double rounding = 1e-14 * norms[blockIdx.x];
      least = fmax(smallest * longest, rounding * rounding);
    }
    reduce(coefficients, least);
  }
  __syncthreads();
  const unsigned int vanished = coefficients.left;
  const double* other = replacement + blockIdx.x * ROWS * n;
  for (i64 column = threadIdx.x; column < n; column += blockDim.x) {
    double r[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) r[i] = own[i * n + column];
    for (int i = 0; i < ROWS; ++i) {
      double value = 0.0;
      if (!(vanished >> i & 1)) {
#pragma unroll
        for (int j = 0; j < ROWS; ++j) value += coefficients.weights[i][j] * r[j];
      } else if (replacement) {
        value = other[i * n + column];
      }
      own[i * n + column] = value;
    }
  }
}

// norms[m] becomes at least the length of the longest of the rows of matrix m.
extern "C" __global__ void raise_norms(const double* __restrict__ rows, i64 n, double* norms) {
  __shared__ BlockScratch scratch;
  const double* own = rows + blockIdx.x * ROWS * n;
  double squares[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) squares[i] = 0.0;
  for (i64 column = threadIdx.x; column < n; column += blockDim.x)
#pragma unroll
    for (int i = 0; i < ROWS; ++i) squares[i] += own[i * n + column] * own[i * n + column];
  join_in_first_warp<Sum>(squares, scratch);
  if (threadIdx.x == 0) {
    double longest = 0.0;
    for (int i = 0; i < ROWS; ++i) longest = fmax(longest, squares[i]);
    norms[blockIdx.x] = fmax(norms[blockIdx.x], sqrt(longest));
  }
}
