// Markers of many targets, scores of their cells, and samples of the controls by rank.
// Thread map: see each kernel; what belongs to a target or a gene stays in one block, which fixes the order of sums.
#include "perturbation_common.cuh"

// Mean, centred sum of squares and maximum of rows of any length; empty rows: 0, 0, -inf. A block takes a row.
extern "C" __global__ void row_moments(const double* __restrict__ values, const i64* __restrict__ starts,
                                       const int* __restrict__ lengths, Moments* __restrict__ moments) {
  __shared__ BlockScratch scratch;
  const i64 row = blockIdx.x;
  const double* x = values + starts[row];
  const int n = lengths[row];
  double sum[1] = {0.0}, least[1] = {INFINITE}, squares[1] = {0.0};
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    sum[0] += x[i];
    least[0] = fmin(least[0], -x[i]);
  }
  join_block<Sum>(sum, scratch);
  join_block<Least>(least, scratch);
  const double mean = sum[0] / (double)max(n, 1);
  for (int i = threadIdx.x; i < n; i += blockDim.x) squares[0] += (x[i] - mean) * (x[i] - mean);
  join_block<Sum>(squares, scratch);
  if (threadIdx.x == 0) moments[row] = Moments{mean, squares[0], -least[0]};
}

// How to standardise the markers: moments of controls and cells merge as in Chan, Golub and LeVeque (1983). A block
// takes a marker, because the mean of clipped controls needs all of them.
//   target_of   target of each marker
extern "C" __global__ void standardise(BATCH_PARAMETERS, const Moments* __restrict__ control_moments,
                                       const Moments* __restrict__ cell_moments, const int* __restrict__ target_of,
                                       int scale, double clip) {
  __shared__ BlockScratch scratch;
  const i64 j = blockIdx.x;
  const int t = target_of[j];
  const Moments ours = control_moments[columns[j]], theirs = cell_moments[j];
  const double n_cells = (double)(cell_offsets[t + 1] - cell_offsets[t]), n = (double)n_control + n_cells;
  Marker marker = {0.0, 1.0, INFINITE, INFINITE, 0.0, 0.0};
  if (scale && n >= 2.0) {
    const double gap = theirs.mean - ours.mean;
    marker.mean = ours.mean + gap * (n_cells / n);
    const double squares = ours.squares + theirs.squares + gap * gap * ((double)n_control * n_cells / n);
    const double deviation = sqrt(squares / (n - 1.0));
    // A constant marker leaves only the rounding of its mean.
    if (deviation > 8.0 * 2.220446049250313e-16 * fabs(marker.mean)) marker.factor = 1.0 / deviation;
  }
  // Clipping costs another pass, which nearly no gene needs.
  if ((ours.largest - marker.mean) * marker.factor > clip) marker.control_clip = clip;
  if ((theirs.largest - marker.mean) * marker.factor > clip) marker.cell_clip = clip;
  marker.control_mean = (ours.mean - marker.mean) * marker.factor;
  if (marker.control_clip < INFINITE) {
    const double* row = control + columns[j] * n_control;
    double sum[1] = {0.0};
    for (int i = threadIdx.x; i < n_control; i += blockDim.x) sum[0] += standardised(row[i], marker, clip);
    join_block<Sum>(sum, scratch);
    marker.control_mean = sum[0] / (double)n_control;
  }
  if (threadIdx.x == 0) markers[j] = marker;
}

// Scores of the cells along the direction of all of them, standardised by the controls'. A block takes a target.
//   order      targets, the largest first
//   x          (n_control + n_cells) of each target, from x_offsets on: the scores
extern "C" __global__ void __launch_bounds__(512)
    score_targets(BATCH_PARAMETERS, const int* __restrict__ order, double* x, const i64* __restrict__ x_offsets,
                  double* __restrict__ standardised_scores, double* __restrict__ scores, int* __restrict__ status,
                  int* __restrict__ missing) {
  __shared__ BlockScratch scratch;
  const int t = order[blockIdx.x];
  const Target target = TARGET(t);
  double* own = x + x_offsets[t];
  double *relative = standardised_scores + cell_offsets[t], *absolute = scores + cell_offsets[t];
  const double length = find_direction(target, nullptr, scratch);
  const bool found = length > 0.0;
  double mean = 0.0, variance = 0.0;
  if (found) {
    project(target, length, own);
    sample_moments(own, target.n_control, nullptr, scratch, mean, variance);
  }
  for (int i = threadIdx.x; i < target.n_cells; i += blockDim.x) {
    const double score = found ? own[target.n_control + i] : NOT_A_NUMBER;
    absolute[i] = score;
    relative[i] = variance > 0.0 ? (score - mean) / sqrt(variance) : 0.0;
  }
  if (threadIdx.x == 0) {
    status[t] = !found ? NO_DIRECTION : variance > 0.0 ? OK : CONTROL_CONSTANT;
    missing[t] = !found;
  }
}

// Controls at given ranks of the scores, equal scores by position: sample[t, r] = position of rank ranks[r]; -1 for a
// target without scores (`missing`). A block takes one target after the other and merges sorted runs: an entry's place
// is its place in its own run plus the entries of the other run before it.
//   x, x_offsets   scores; the first n_control of each target are sorted
//   keys, places   (n_blocks, 2, n_control) scratch
extern "C" __global__ void rank_controls(const double* __restrict__ x, const i64* __restrict__ x_offsets,
                                         const int* __restrict__ missing, int n_targets, int n_control,
                                         const i64* __restrict__ ranks, int n_ranks, double* keys, int* places,
                                         i64* __restrict__ sample) {
  double* key[2] = {keys + 2 * (i64)blockIdx.x * n_control, keys + (2 * (i64)blockIdx.x + 1) * n_control};
  int* place[2] = {places + 2 * (i64)blockIdx.x * n_control, places + (2 * (i64)blockIdx.x + 1) * n_control};
  for (int t = blockIdx.x; t < n_targets; t += gridDim.x) {
    i64* out = sample + (i64)t * n_ranks;
    if (missing[t]) {
      for (int r = threadIdx.x; r < n_ranks; r += blockDim.x) out[r] = -1;
      continue;
    }
    for (int i = threadIdx.x; i < n_control; i += blockDim.x) {
      key[0][i] = x[x_offsets[t] + i];
      place[0][i] = i;
    }
    __syncthreads();
    int from = 0;
    for (i64 run = 1; run < n_control; run *= 2, from ^= 1) {
      const double* sorted = key[from];
      for (int i = threadIdx.x; i < n_control; i += blockDim.x) {
        const i64 begin = i / (2 * run) * (2 * run), middle = min(begin + run, (i64)n_control);
        const i64 end = min(begin + 2 * run, (i64)n_control);
        const bool is_left = i < middle;
        const double own = sorted[i];
        i64 low = is_left ? middle : begin, high = is_left ? end : middle;
        while (low < high) {
          const i64 between = (low + high) / 2;
          const bool precedes = is_left ? sorted[between] < own : sorted[between] <= own;
          if (precedes)
            low = between + 1;
          else
            high = between;
        }
        const i64 to = is_left ? i + (low - middle) : i - middle + low;
        key[from ^ 1][to] = own;
        place[from ^ 1][to] = place[from][i];
      }
      __syncthreads();
    }
    for (int r = threadIdx.x; r < n_ranks; r += blockDim.x) out[r] = place[from][ranks[r]];
    __syncthreads();
  }
}
