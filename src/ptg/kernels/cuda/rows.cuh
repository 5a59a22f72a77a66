// Rows of a matrix, CSR or (with DENSE) C-ordered, of which the device may hold a part: see rows.py.
//   Value, Index   types of values and column numbers
typedef long long i64;
typedef unsigned long long u64;

#ifndef Value
#define Value float
#endif
#ifndef Index
#define Index int
#endif

struct Rows {
  const i64* indptr;     // of row `first` and those after it, counted from the beginning of the whole matrix
  const Index* indices;  // of the entries from row `first` on
  const Value* data;
  i64 first;
  i64 last;  // rows first <= row < last are here
  int n_columns;

  __device__ __forceinline__ bool holds(i64 row) const { return row >= first && row < last; }

#ifdef DENSE
  __device__ __forceinline__ i64 begin(i64 row) const { return (row - first) * n_columns; }
  __device__ __forceinline__ i64 end(i64 row) const { return begin(row) + n_columns; }
  __device__ __forceinline__ int column(i64 row, i64 entry) const { return (int)(entry - begin(row)); }
#else
  __device__ __forceinline__ i64 begin(i64 row) const { return indptr[row - first] - indptr[0]; }
  __device__ __forceinline__ i64 end(i64 row) const { return begin(row + 1); }
  __device__ __forceinline__ int column(i64, i64 entry) const { return (int)indices[entry]; }
#endif

  // First entry of a row whose column is not below `wanted`. Columns ascend.
  __device__ __forceinline__ i64 find(i64 row, int wanted) const {
#ifdef DENSE
    return begin(row) + wanted;
#else
    if (wanted <= 0) return begin(row);
    if (wanted >= n_columns) return end(row);
    i64 low = begin(row), high = end(row);
    while (low < high) {
      const i64 middle = (low + high) >> 1;
      if (indices[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
#endif
  }
};

// The parameters of a kernel that reads rows, and the rows.
#define ROWS_PARAMETERS \
  const i64* __restrict__ indptr, const Index* __restrict__ indices, const Value* __restrict__ data, i64 first_row, \
      i64 last_row, int n_columns
#define ROWS Rows{indptr, indices, data, first_row, last_row, n_columns}
