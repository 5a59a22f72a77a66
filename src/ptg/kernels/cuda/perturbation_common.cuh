// Shared by the kernels of perturbation directions: markers, the projection of one target, moments of its scores.
//
// Layout. control is (n_columns, n_control), a row for each gene; a target's values are (n_markers, n_cells), target
// after target. A target's scores are together: those of the controls, then those of its cells.
#include "block_sums.cuh"
typedef long long i64;

// Outcomes, as in the contract.
#define OK 0
#define NO_DIRECTION 1
#define CONTROL_CONSTANT 2
#define PERTURBED_CONSTANT 3
#define FEW_PERTURBED 4
#define ILL_DEFINED 5

#define INFINITE __longlong_as_double(0x7ff0000000000000LL)
#define NOT_A_NUMBER __longlong_as_double(0x7ff8000000000000LL)

// A gene of one target: a standardised value is min((value - mean) * factor, clip).
struct Marker {
  double mean;
  double factor;
  double control_clip;  // infinite where no control reaches it
  double cell_clip;
  double control_mean;  // of the standardised values
  double weight;        // of the direction
};

struct Moments {
  double mean;
  double squares;  // about the mean
  double largest;
};

__device__ __forceinline__ double standardised(double value, const Marker& marker, double clip) {
  return fmin((value - marker.mean) * marker.factor, clip);
}

// The batch as kernels take it, and one target of it.
#define BATCH_PARAMETERS                                                                                       \
  const double *__restrict__ control, int n_control, const i64 *__restrict__ columns,                          \
      const i64 *__restrict__ marker_offsets, const double *__restrict__ values,                               \
      const i64 *__restrict__ value_offsets, const i64 *__restrict__ cell_offsets, Marker *markers
#define TARGET(t)                                                                                              \
  Target {                                                                                                     \
    control, n_control, columns + marker_offsets[t], (int)(marker_offsets[t + 1] - marker_offsets[t]),         \
        values + value_offsets[t], (int)(cell_offsets[t + 1] - cell_offsets[t]), markers + marker_offsets[t]   \
  }
struct Target {
  const double* control;
  int n_control;
  const i64* columns;
  int n_markers;
  const double* values;
  int n_cells;
  Marker* markers;

  __device__ __forceinline__ i64 n() const { return (i64)n_control + n_cells; }
};

// Direction of the chosen cells (all where `chosen` is null); returns its squared length. A warp takes a marker.
__device__ double find_direction(const Target& target, const unsigned char* chosen, BlockScratch& scratch) {
  const int lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
  for (int j = threadIdx.x >> 5; j < target.n_markers; j += n_warps) {
    const Marker marker = target.markers[j];
    const double* row = target.values + (i64)j * target.n_cells;
    double sums[2] = {0.0, 0.0};
    for (int i = lane; i < target.n_cells; i += 32)
      if (!chosen || chosen[i]) {
        sums[0] += standardised(row[i], marker, marker.cell_clip);
        sums[1] += 1.0;
      }
    join_warp<Sum>(sums);
    if (lane == 0) target.markers[j].weight = sums[0] / sums[1] - marker.control_mean;
  }
  __syncthreads();
  double length[1] = {0.0};
  for (int j = threadIdx.x; j < target.n_markers; j += blockDim.x) {
    const double weight = target.markers[j].weight;
    length[0] = fma(weight, weight, length[0]);
  }
  join_block<Sum>(length, scratch);
  return length[0];
}

// Scores of controls and cells along the direction, into x. Fused operations are written out: equal values get equal
// scores. A thread takes 4 controls at a time, to have 4 loads under way.
__device__ void project(const Target& target, double length, double* x) {
  const int last = target.n_control - 1;
  for (i64 first = threadIdx.x; first < target.n_control; first += 4 * (i64)blockDim.x) {
    double scores[4] = {0.0, 0.0, 0.0, 0.0};
    i64 at[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) at[u] = min(first + u * (i64)blockDim.x, (i64)last);
#pragma unroll 2
    for (int j = 0; j < target.n_markers; ++j) {
      const Marker marker = target.markers[j];
      const double* row = target.control + target.columns[j] * target.n_control;
#pragma unroll
      for (int u = 0; u < 4; ++u)
        scores[u] = fma(standardised(row[at[u]], marker, marker.control_clip), marker.weight, scores[u]);
    }
#pragma unroll
    for (int u = 0; u < 4; ++u)
      if (first + u * (i64)blockDim.x <= last) x[first + u * (i64)blockDim.x] = scores[u] / length;
  }
  for (int i = threadIdx.x; i < target.n_cells; i += blockDim.x) {
    double score = 0.0;
    for (int j = 0; j < target.n_markers; ++j) {
      const Marker marker = target.markers[j];
      const double value = target.values[(i64)j * target.n_cells + i];
      score = fma(standardised(value, marker, marker.cell_clip), marker.weight, score);
    }
    x[target.n_control + i] = score / length;
  }
  __syncthreads();
}

// Mean and sample variance (n - 1) of the chosen entries (all where `chosen` is null); the variance of fewer than two,
// or of equal ones, is exactly 0.
__device__ void sample_moments(const double* x, i64 n, const unsigned char* chosen, BlockScratch& scratch, double& mean,
                               double& variance) {
  double sums[2] = {0.0, 0.0}, ends[2] = {INFINITE, INFINITE}, squares[1] = {0.0};
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    if (!chosen || chosen[i]) {
      sums[0] += x[i];
      sums[1] += 1.0;
      ends[0] = fmin(ends[0], x[i]);
      ends[1] = fmin(ends[1], -x[i]);
    }
  join_block<Sum>(sums, scratch);
  join_block<Least>(ends, scratch);
  mean = sums[0];
  variance = 0.0;
  if (sums[1] < 2.0 || ends[0] == -ends[1]) return;
  mean = sums[0] / sums[1];
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    if (!chosen || chosen[i]) squares[0] += (x[i] - mean) * (x[i] - mean);
  join_block<Sum>(squares, scratch);
  variance = squares[0] / (sums[1] - 1.0);
}
