// Passes over the entries of a count matrix.
//   Index, Count   types of guide numbers and counts
typedef long long i64;
typedef unsigned long long u64;

#ifndef Index
#define Index int
#endif
#ifndef Count
#define Count float
#endif
#ifndef LANES
#define LANES 32
#endif

// One number for guide and count, ascending with the guide, then with the count; zeros come last.
// A thread takes an entry.
extern "C" __global__ void make_keys(const Index* __restrict__ indices, const Count* __restrict__ counts, i64 n_entries,
                                     u64* __restrict__ keys) {
  const i64 entry = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (entry >= n_entries) return;
  keys[entry] = counts[entry] > 0 ? ((u64)indices[entry] << 32) | (u64)counts[entry] : ~(u64)0;
}

// The largest count of each cell and its guide, of several the smallest; 0 and -1 where nothing is counted.
// A warp takes a cell.
//   indptr   (n_cells + 1,): counted from indptr[0]
extern "C" __global__ void largest_counts(const i64* __restrict__ indptr, const Index* __restrict__ indices,
                                          const Count* __restrict__ counts, i64 n_cells, i64* __restrict__ guides,
                                          double* __restrict__ largest) {
  const i64 cell = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
  if (cell >= n_cells) return;  // the whole warp
  const i64 end = indptr[cell + 1] - indptr[0];
  i64 guide = -1;
  double best = 0.0;
  for (i64 entry = indptr[cell] - indptr[0] + threadIdx.x % LANES; entry < end; entry += LANES) {
    const double count = (double)counts[entry];
    const i64 here = (i64)indices[entry];
    if (count > best || (count == best && here < guide)) {  // never for a count of 0
      guide = here;
      best = count;
    }
  }
#pragma unroll
  for (int step = LANES / 2; step > 0; step >>= 1) {
    const i64 other_guide = __shfl_xor_sync(0xffffffffu, guide, step);
    const double other = __shfl_xor_sync(0xffffffffu, best, step);
    if (other > best || (other == best && other_guide < guide)) {
      guide = other_guide;
      best = other;
    }
  }
  if (threadIdx.x % LANES == 0) {
    guides[cell] = guide;
    largest[cell] = best;
  }
}
