// The k nearest references of every query, exactly.
//
//   d(x, y) = sum_j (x_j - y_j)^2 in float64, first dimension to last, without fused multiply-add; ties by position
//
// Layout. A float32 copy of the centred and scaled points finds candidates: |y|^2 - 2 x.y of a warp's 8 queries and 128
// references at a time, references as [tile][dimension][128], queries as [warp][dimension][8]. What is below a query's
// k-th distance in truth is below `cut` in float32 (rounding adds at most slack (|x| + |y|)^2); only these pairs are
// computed in float64 from the points as given, and those numbers alone decide.
// Thread map. A warp has 8 queries, a lane 4 references of each tile: 32 products in registers from 3 loads per
// dimension. The 8 sorted lists are in shared memory, or for a large k in the results themselves.
typedef long long i64;

#define QUERIES 8
#define TILE 128
#define EVERY_LANE 0xffffffffu
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)
#define NOBODY 0x7fffffff

// Float32 copy of the points, and their squared norms; padding has value and norm 0. A thread takes a point.
//   group    points whose values of one dimension lie together
template <typename Value>
__device__ void coarse_points(const Value* points, const double* centre, double scale, double factor, i64 n,
                              i64 n_padded, int n_dims, int padded_dims, int group, float* coarse, double* square) {
  const i64 point = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (point >= n_padded) return;
  float* to = coarse + (point / group) * padded_dims * group + point % group;
  double sum = 0.0;
  for (int j = 0; j < padded_dims; ++j) {
    const double x = point < n && j < n_dims ? ((double)points[point * n_dims + j] - centre[j]) * scale : 0.0;
    sum += x * x;
    to[(i64)j * group] = (float)(factor * x);
  }
  square[point] = sum;
}

__device__ __forceinline__ bool before(double d, int i, double other, int other_i) {
  return d < other || (d == other && i < other_i);
}

// Put an entry that belongs there into a sorted list of k; the last one leaves it. All lanes of a warp together.
__device__ void insert(double d, int i, int k, double* distances, int* positions) {
  const int lane = threadIdx.x & 31;
  int place = 0;
  for (int first = 0; first < k; first += 32) {
    const int j = first + lane;
    place += __popc(__ballot_sync(EVERY_LANE, j < k && before(distances[j], positions[j], d, i)));
  }
  for (int first = (k - 1) / 32 * 32; first >= 0 && first + 31 > place; first -= 32) {
    const int j = first + lane;
    const bool moves = j > place && j < k;
    const double moved = moves ? distances[j - 1] : 0.0;
    const int moved_i = moves ? positions[j - 1] : 0;
    __syncwarp();
    if (moves) {
      distances[j] = moved;
      positions[j] = moved_i;
    }
    __syncwarp();
  }
  if (lane == 0) {
    distances[place] = d;
    positions[place] = i;
  }
  __syncwarp();
}

// Offer 128 references to one query, 4 consecutive ones a lane; returns the k-th distance so far.
template <typename Value>
__device__ __noinline__ double offer(float4 coarse, float cut, const Value* query, const Value* references,
                                     int reference, int n_references, int n_dims, int k, double* distances,
                                     int* positions) {
  const float products[4] = {coarse.x, coarse.y, coarse.z, coarse.w};
  double last = distances[k - 1];
  int last_i = positions[k - 1];
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const int candidate = reference + c;
    const bool near = products[c] <= cut && candidate < n_references;
    if (!__any_sync(EVERY_LANE, near)) continue;
    double d = 0.0;
    if (near) {
      const Value* y = references + (i64)candidate * n_dims;
      for (int j = 0; j < n_dims; ++j) {
        const double difference = __dsub_rn((double)query[j], (double)y[j]);
        d = __dadd_rn(d, __dmul_rn(difference, difference));
      }
    }
    unsigned wanted = __ballot_sync(EVERY_LANE, near && before(d, candidate, last, last_i));
    while (wanted) {
      const int from = __ffs(wanted) - 1;
      wanted &= wanted - 1;
      const double nearer = __shfl_sync(EVERY_LANE, d, from);
      const int nearer_i = __shfl_sync(EVERY_LANE, candidate, from);
      if (before(nearer, nearer_i, last, last_i)) {
        insert(nearer, nearer_i, k, distances, positions);
        last = distances[k - 1];
        last_i = positions[k - 1];
      }
    }
  }
  return last;
}

// underflow          what products and distances near zero may have lost
// squared, indices   (n_queries, k): the result
// in_shared          whether the lists fit there: 8 k (8 + 4) bytes a warp
template <typename Value>
__device__ void nearest(const float* coarse_query, const double* query_square, const Value* query,
                        const float* coarse_reference, const float* reference_square, const double* tile_norm,
                        const Value* reference, double scale, double slack, double underflow, i64 n_queries,
                        int n_references, int n_dims, int padded_dims, int k, int in_shared, double* squared,
                        int* indices) {
  extern __shared__ double lists[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
  const i64 group = (i64)blockIdx.x * n_warps + warp, first = group * QUERIES;
  if (first >= n_queries) return;
  const int n_here = (int)min((i64)QUERIES, n_queries - first);
  double* distances = in_shared ? lists + (i64)warp * QUERIES * k : squared + first * k;
  int* shared_positions = (int*)(lists + (i64)n_warps * QUERIES * k) + (i64)warp * QUERIES * k;
  int* positions = in_shared ? shared_positions : indices + first * k;
  for (int j = lane; j < n_here * k; j += 32) {
    distances[j] = INFINITE;
    positions[j] = NOBODY;
  }
  __syncwarp();

  // Lane q keeps the state of query q.
  const double square = lane < n_here ? query_square[first + lane] : 0.0, norm = sqrt(square);
  double last = INFINITE;
  const float* x = coarse_query + group * padded_dims * QUERIES;
  const int n_tiles = (n_references + TILE - 1) / TILE;
  for (int tile = 0; tile < n_tiles; ++tile) {
    const double bound = last * scale * scale - square, reach = norm + tile_norm[tile];
    float cut = __double2float_ru(bound + slack * (fabs(bound) + reach * reach) + underflow);
    if (lane >= n_here) cut = -(float)INFINITE;

    const float* y = coarse_reference + (i64)tile * padded_dims * TILE + lane * 4;
    const float4 squares = *reinterpret_cast<const float4*>(reference_square + (i64)tile * TILE + lane * 4);
    float4 products[QUERIES];
#pragma unroll
    for (int q = 0; q < QUERIES; ++q) products[q] = squares;
#pragma unroll 4
    for (int j = 0; j < padded_dims; ++j) {
      const float4 r = *reinterpret_cast<const float4*>(y + (i64)j * TILE);
      const float4 low = *reinterpret_cast<const float4*>(x + (i64)j * QUERIES);
      const float4 high = *reinterpret_cast<const float4*>(x + (i64)j * QUERIES + 4);
      const float values[QUERIES] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int q = 0; q < QUERIES; ++q) {
        products[q].x = fmaf(values[q], r.x, products[q].x);
        products[q].y = fmaf(values[q], r.y, products[q].y);
        products[q].z = fmaf(values[q], r.z, products[q].z);
        products[q].w = fmaf(values[q], r.w, products[q].w);
      }
    }
#pragma unroll
    for (int q = 0; q < QUERIES; ++q) {
      const float limit = __shfl_sync(EVERY_LANE, cut, q);
      const float4 p = products[q];
      const bool near = p.x <= limit || p.y <= limit || p.z <= limit || p.w <= limit;
      if (q < n_here && __any_sync(EVERY_LANE, near)) {
        const double now = offer(p, limit, query + (first + q) * n_dims, reference, tile * TILE + lane * 4,
                                 n_references, n_dims, k, distances + q * k, positions + q * k);
        if (lane == q) last = now;
      }
    }
  }
  if (in_shared)
    for (int j = lane; j < n_here * k; j += 32) {
      squared[first * k + j] = distances[j];
      indices[first * k + j] = positions[j];
    }
}

#define EACH(Value, suffix)                                                                                            \
  extern "C" __global__ void coarse_points_##suffix(const Value* points, const double* centre, double scale,           \
                                                    double factor, i64 n, i64 n_padded, int n_dims, int padded_dims,   \
                                                    int group, float* coarse, double* square) {                        \
    coarse_points<Value>(points, centre, scale, factor, n, n_padded, n_dims, padded_dims, group, coarse, square);      \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(128)                                                                    \
      nearest_##suffix(const float* __restrict__ coarse_query, const double* __restrict__ query_square,                \
                       const Value* __restrict__ query, const float* __restrict__ coarse_reference,                    \
                       const float* __restrict__ reference_square, const double* __restrict__ tile_norm,               \
                       const Value* __restrict__ reference, double scale, double slack, double underflow,              \
                       i64 n_queries, int n_references, int n_dims, int padded_dims, int k, int in_shared,             \
                       double* squared, int* indices) {                                                                \
    nearest<Value>(coarse_query, query_square, query, coarse_reference, reference_square, tile_norm, reference, scale, \
                   slack, underflow, n_queries, n_references, n_dims, padded_dims, k, in_shared, squared, indices);    \
  }
EACH(float, float32)
EACH(double, float64)
