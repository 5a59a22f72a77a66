// Rows of targets made dense, and standardised so that the correlation matrix of a target with the controls is
//
//   F S F + Z' Z,   F = diag(1 / (deviation sqrt(n - 1))),   S = scatter of the controls
//
// Layout. z is (n_targets, n_rows, n_columns) float64: the rows of each target, one for the distance between the means
// of target and controls, zeros.
#include "rows.cuh"

// out[places[k]] = row wanted[k], where `out` was zero. A block takes a row.
extern "C" __global__ void fill_rows(ROWS_PARAMETERS, const i64* __restrict__ wanted, const i64* __restrict__ places,
                                     double* __restrict__ out) {
  const Rows rows = ROWS;
  const i64 row = wanted[blockIdx.x];
  double* to = out + places[blockIdx.x] * n_columns;
  const i64 end = rows.end(row);
  for (i64 entry = rows.begin(row) + threadIdx.x; entry < end; entry += blockDim.x)
    to[rows.column(row, entry)] = (double)data[entry];
}

// Moments of target and controls merge as in Chan, Golub and LeVeque (1983). A thread takes a column of a target.
//   sizes     rows of each target, fewer than n_rows
//   factor    (n_targets, n_columns): the diagonal of F; 0 for a gene without variance
extern "C" __global__ void standardise_rows(double* z, const int* __restrict__ sizes, i64 n_rows, i64 width,
                                            const double* __restrict__ control_mean,
                                            const double* __restrict__ control_squares, double n_control,
                                            double* __restrict__ factor) {
  const i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x, target = blockIdx.y;
  if (column >= width) return;
  double* own = z + target * n_rows * width + column;
  const int n = sizes[target];
  double mean = 0.0, squares = 0.0;
  for (int i = 0; i < n; ++i) mean += own[i * width];
  mean /= (double)max(n, 1);
  for (int i = 0; i < n; ++i) squares += (own[i * width] - mean) * (own[i * width] - mean);
  const double total = n_control + n, gap = mean - control_mean[column];
  const double pooled = control_mean[column] + gap * (n / total), between = gap * sqrt(n_control * n / total);
  const double degrees = fmax(total - 1.0, 1.0);
  const double deviation = sqrt(fmax(control_squares[column] + squares + between * between, 0.0) / degrees);
  // A gene without variance leaves only the rounding of its mean.
  const double scale = deviation > 8.0 * 2.220446049250313e-16 * fabs(pooled) ? 1.0 / (deviation * sqrt(degrees)) : 0.0;
  for (int i = 0; i < n; ++i) own[i * width] = (own[i * width] - mean) * scale;
  own[n * width] = between * scale;
  factor[target * width + column] = scale;
}
