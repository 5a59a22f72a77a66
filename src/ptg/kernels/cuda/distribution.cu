// The largest difference of the distribution functions of two groups, for columns that are sorted in every group.
//
//   out[d, c, p] = max_t |F_l(t) - F_r(t)|,  l = left[p], r = right[p], of column c in draw d
//
// A thread takes a pair, a column and a draw and merges the two groups; neighbouring threads have neighbouring pairs,
// whose left group is mostly the same.
typedef long long i64;

//   values    (n_columns, n_cells): ascending in each group
//   heights   (n_draws, n_columns, n_cells): the distribution function at each value, complete at the last of equals
//   offsets   (n_groups + 1,)
extern "C" __global__ void ks_statistics(const double* __restrict__ values, const double* __restrict__ heights,
                                         const i64* __restrict__ offsets, const i64* __restrict__ left,
                                         const i64* __restrict__ right, i64 n_pairs, i64 n_cells, int n_columns,
                                         double* __restrict__ out) {
  const i64 pair = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= n_pairs) return;
  const i64 column = blockIdx.y, draw = blockIdx.z;
  const double* v = values + column * n_cells;
  const double* h = heights + (draw * n_columns + column) * n_cells;
  const i64 i_begin = offsets[left[pair]], i_end = offsets[left[pair] + 1];
  const i64 j_begin = offsets[right[pair]], j_end = offsets[right[pair] + 1];
  i64 i = i_begin, j = j_begin;
  // NaN: a group without cells, or without weight, whose heights are NaN.
  double largest = i < i_end && j < j_end ? 0.0 : __longlong_as_double(0x7ff8000000000000LL);
  // Once one function has reached 1, the difference only shrinks.
  while (i < i_end && j < j_end) {
    const double x = v[i], y = v[j], t = x < y ? x : y;
    while (i < i_end && v[i] == t) ++i;
    while (j < j_end && v[j] == t) ++j;
    const double below_x = i > i_begin ? h[i - 1] : 0.0, below_y = j > j_begin ? h[j - 1] : 0.0;
    const double difference = fabs(below_x - below_y);
    if (!(difference <= largest)) largest = difference;
  }
  out[(draw * n_columns + column) * n_pairs + pair] = largest;
}
