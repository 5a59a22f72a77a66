// Bootstraps and permutations as cell weights, by Philox4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405).
//
//   number(d, i) = two words of Philox(counter(d, i), key of the group)         chosen = floor(number * n / 2^64)
//
// Layout. weights is (n_draws, n_cells) uint16, C-ordered; the cells of group g are offsets[g] to offsets[g + 1] - 1.
// Only integers are added, so the order of the additions does not matter.
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

struct Numbers {
  u64 even, odd;
};

__device__ __forceinline__ Numbers philox(u32 c0, u32 c1, u32 c2, u32 c3, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
    c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
    c1 = (u32)p1;
    c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c3 = (u32)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {(u64)c0 | ((u64)c1 << 32), (u64)c2 | ((u64)c3 << 32)};
}

// floor(number * n / 2^64), for n < 2^32.
__device__ __forceinline__ i64 choose(u64 number, u64 n) {
  return (i64)(((number >> 32) * n + (((number & 0xFFFFFFFFull) * n) >> 32)) >> 32);
}

// A thread takes a position among the cells, and every gridDim.y-th pair of draws.
//   words   weights as pairs: the even element is the lower half. Zero before.
extern "C" __global__ void bootstraps(const i64* __restrict__ offsets, const u64* __restrict__ keys, i64 n_groups,
                                      i64 first_draw, i64 n_draws, u32* words) {
  const i64 n_cells = offsets[n_groups];
  const i64 cell = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (cell >= n_cells) return;
  i64 group = 0, above = n_groups;  // the last group that does not begin after the cell: no empty one
  while (above - group > 1) {
    const i64 middle = (group + above) / 2;
    if (offsets[middle] <= cell)
      group = middle;
    else
      above = middle;
  }
  const i64 start = offsets[group], position = cell - start;
  const u64 n = (u64)(offsets[group + 1] - start), key = keys[group];
  for (i64 pair = first_draw / 2 + blockIdx.y; 2 * pair < first_draw + n_draws; pair += gridDim.y) {
    const Numbers numbers = philox((u32)pair, 0u, (u32)position, (u32)(position >> 32), key);
    const i64 row = 2 * pair - first_draw;
    if (row >= 0) {
      const i64 at = row * n_cells + start + choose(numbers.even, n);
      atomicAdd(words + at / 2, at % 2 ? 0x10000u : 1u);
    }
    if (row + 1 < n_draws) {
      const i64 at = (row + 1) * n_cells + start + choose(numbers.odd, n);
      atomicAdd(words + at / 2, at % 2 ? 0x10000u : 1u);
    }
  }
}

// A thread takes a draw of a pool; neighbouring threads take neighbouring pools, whose cells are near each other.
//   n_chosen   (n_pools,)
//   weights    1 in every pool of which more than half is chosen, else 0, before
extern "C" __global__ void permutations(const i64* __restrict__ offsets, const i64* __restrict__ n_chosen,
                                        const u64* __restrict__ keys, i64 n_pools, i64 first_draw, i64 n_draws,
                                        unsigned short* weights) {
  const i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (thread >= n_pools * n_draws) return;
  const i64 row = thread / n_pools, pool = thread % n_pools;
  const i64 start = offsets[pool], size = offsets[pool + 1] - start;
  const bool marks_chosen = 2 * n_chosen[pool] <= size;
  const i64 n_marked = marks_chosen ? n_chosen[pool] : size - n_chosen[pool];
  const unsigned short mark = marks_chosen ? 1 : 0;
  const u64 key = keys[pool];
  unsigned short* cells = weights + row * offsets[n_pools] + start;
  Numbers numbers = {0, 0};
  for (i64 step = 0; step < n_marked; ++step) {
    const i64 half = step / 2;
    if (step % 2 == 0) numbers = philox((u32)(first_draw + row), 1u, (u32)half, (u32)(half >> 32), key);
    const i64 last = size - n_marked + step;
    const i64 cell = choose(step % 2 ? numbers.odd : numbers.even, (u64)last + 1);
    cells[cells[cell] == mark ? last : cell] = mark;
  }
}

// Welford's updates of means and sums of squared deviations by the values of more draws. A thread takes a pair.
//   values   (n_draws, n_pairs)
extern "C" __global__ void accumulate(const double* __restrict__ values, i64 n_draws, i64 n_pairs, i64 n_before,
                                      double* means, double* squares) {
  const i64 pair = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= n_pairs) return;
  double mean = means[pair], square = squares[pair];
  for (i64 draw = 0; draw < n_draws; ++draw) {
    const double value = values[draw * n_pairs + pair], change = value - mean;
    mean += change / (double)(n_before + draw + 1);
    square += change * (value - mean);
  }
  means[pair] = mean;
  squares[pair] = square;
}
