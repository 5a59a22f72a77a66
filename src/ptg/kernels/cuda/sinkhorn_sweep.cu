// One pass over the exponents of many pairs: from the potential psi of the columns
//
//   phi_i = -log2 sum_j b_j 2^(x_ij + psi_j)        and        S_j = sum_i a_i 2^(x_ij + phi_i)
//
// with a single reading of x. psi is split: `shift` is added to x, `scale` = b 2^(psi - shift) multiplies the power.
// While shift stays, a pass is the same function of psi to the last bit.
//
// A group paired with itself gets phi itself, too, for `vectors`.
//
// Layout. A row lies in the registers of one warp, E values a lane, or of W warps (then a block takes one row at a
// time). A lane keeps the maximum and the sum of one row in 32, so that logarithms are taken 32 at a time. A block writes
// the column sums of its band of rows: 128 rows for W = 1, else 32.
#include "sinkhorn_common.cuh"
#include "sinkhorn_state.cuh"

#define BAND_WARPS 4  // of a block where a warp takes whole rows

struct Exchange {
  Chain sum;
  Real top;
};

template <int E>
struct Line {
  Real value[E];
};

struct __align__(16) Sixteen {
  Real value[16 / sizeof(Real)];
};

template <int E, int W, bool FIRST>
__device__ __forceinline__ void sweep(const Task& t, int band, const Real* __restrict__ kernel,
                                      const double* __restrict__ mass, const Real* __restrict__ shift,
                                      const double* __restrict__ scale, double* __restrict__ partial,
                                      double* __restrict__ dual, double* __restrict__ phi, Chain* columns, Exchange* exchange,
                                      double* of_warp) {
  constexpr int V = 16 / sizeof(Real);                // values of a load
  constexpr int PART = 32 * E;                        // columns of a warp
  constexpr int FULL = 64 / sizeof(Real);             // values of a lane that keep enough loads under way
  constexpr int R = W == 1 && FULL > E ? FULL / E : 1;  // rows at once; divides 32
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int from = W == 1 ? 0 : warp * PART;  // first column of this warp
  const int first = W == 1 ? (band * BAND_WARPS + warp) * 32 : band * 32;
  const int count = min(32, t.n - first);  // rows of this warp, perhaps none

  Real base[E];
  Chain factor[E], sum[E];
#pragma unroll
  for (int e = 0; e < E; ++e) {
    const int j = from + (e / V) * 32 * V + lane * V + e % V;
    base[e] = j < t.m ? shift[t.vectors + j] : -(Real)LARGE;
    factor[e] = j < t.m ? (Chain)scale[t.vectors + j] : (Chain)0;
    sum[e] = FIRST ? -(Chain)LARGE : (Chain)0;
  }
  const double own_mass = lane < count ? mass[t.rows + first + lane] : 0.0;
  Real own_top = 0;
  double own_sum = 1.0;

  Line<E> next[R];
  auto load = [&](int row) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Real* line = kernel + t.kernel + (i64)(first + min(row + r, count - 1)) * t.ld;
#pragma unroll
      for (int q = 0; q < E / V; ++q) {
        const int j = from + q * 32 * V + lane * V;
        Sixteen some = {};
        if (j < t.ld) some = *reinterpret_cast<const Sixteen*>(line + j);
#pragma unroll
        for (int c = 0; c < V; ++c) next[r].value[q * V + c] = some.value[c];
      }
    }
  };

  if (count > 0) load(0);
  for (int row = 0; row < count; row += R) {
    Line<E> x[R];
    Real top[R], whole[R];
    Chain total[R], weight[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      x[r] = next[r];
      top[r] = -(Real)LARGE;
    }
    if (row + R < count) load(row + R);
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int e = 0; e < E; ++e) {
        x[r].value[e] += base[e];
        top[r] = larger(top[r], x[r].value[e]);
      }
#pragma unroll
    for (int s = 16; s > 0; s >>= 1)
#pragma unroll
      for (int r = 0; r < R; ++r) top[r] = larger(top[r], __shfl_xor_sync(EVERY_LANE, top[r], s));
#pragma unroll
    for (int r = 0; r < R; ++r) {
      total[r] = 0;
      whole[r] = top[r];
      if (!FIRST)
#pragma unroll
        for (int e = 0; e < E; ++e) {
          x[r].value[e] = power_of_two(x[r].value[e] - top[r]);
          total[r] += (Chain)x[r].value[e] * factor[e];
        }
    }
    if (!FIRST)
#pragma unroll
      for (int s = 16; s > 0; s >>= 1)
#pragma unroll
        for (int r = 0; r < R; ++r) total[r] += __shfl_xor_sync(EVERY_LANE, total[r], s);
    Chain own = 1;  // what this warp's powers are multiplied by
    if (W > 1) {
      Exchange* now = exchange + (row & 1) * W;
      if (lane == 0) now[warp] = Exchange{total[0], top[0]};
      __syncthreads();
      whole[0] = now[0].top;
#pragma unroll
      for (int w = 1; w < W; ++w) whole[0] = larger(whole[0], now[w].top);
      total[0] = 0;
#pragma unroll
      for (int w = 0; w < W; ++w) total[0] += now[w].sum * (Chain)power_of_two(now[w].top - whole[0]);
      own = (Chain)power_of_two(top[0] - whole[0]);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      weight[r] = __shfl_sync(EVERY_LANE, (Chain)own_mass, row + r) / (FIRST ? (Chain)1 : total[r]) * own;
      if (lane == row + r) {
        own_top = whole[r];
        own_sum = (double)total[r];
      }
#pragma unroll
      for (int e = 0; e < E; ++e) {
        if (FIRST) sum[e] = larger(sum[e], (Chain)(x[r].value[e] - whole[r]));
        else sum[e] += (Chain)x[r].value[e] * weight[r];
      }
    }
  }

  double parts[1] = {0.0};
  if (!FIRST && lane < count) {
    const double own_phi = -((double)own_top + log2(own_sum));
    parts[0] = own_mass * own_phi;
    if (t.row_set == t.column_set && (W == 1 || warp == 0)) phi[t.vectors + t.rows - t.columns + first + lane] = own_phi;
  }
  join_warp<Sum>(parts);
  double* to = partial + t.partial + (i64)band * t.ld;
  if (W == 1) {
#pragma unroll
    for (int e = 0; e < E; ++e) {
      const int j = (e / V) * 32 * V + lane * V + e % V;
      columns[warp * PART + j] = FIRST ? sum[e] - (Chain)base[e] : sum[e];
    }
    if (lane == 0) of_warp[warp] = parts[0];
    __syncthreads();
    for (int j = threadIdx.x; j < t.m; j += BAND_WARPS * 32) {
      double joined = (double)columns[j];
      for (int w = 1; w < BAND_WARPS; ++w) {
        const double other = (double)columns[w * PART + j];
        joined = FIRST ? fmax(joined, other) : joined + other;
      }
      to[j] = joined;
    }
    if (threadIdx.x == 0) dual[t.dual + band] = (of_warp[0] + of_warp[1]) + (of_warp[2] + of_warp[3]);
  } else {
#pragma unroll
    for (int e = 0; e < E; ++e) {
      const int j = from + (e / V) * 32 * V + lane * V + e % V;
      if (j < t.m) to[j] = (double)(FIRST ? sum[e] - (Chain)base[e] : sum[e]);
    }
    if (threadIdx.x == 0) dual[t.dual + band] = parts[0];
  }
}

//   first   whether sums are to be maxima: of x - max_j x, for potentials that neither underflow nor overflow
#define SWEEP(E, W)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(W == 1 ? BAND_WARPS * 32 : W * 32)                                       \
  sweep_##E##_##W(const Task* __restrict__ tasks, const int* __restrict__ owner, const int* __restrict__ list,          \
                  const i64* __restrict__ starts, const State* __restrict__ states, const Real* __restrict__ kernel,    \
                  const double* __restrict__ mass, const Real* __restrict__ shift, const double* __restrict__ scale,    \
                  double* __restrict__ partial, double* __restrict__ dual, double* __restrict__ phi, int first) {       \
    __shared__ Chain columns[W == 1 ? BAND_WARPS * 32 * E : 1];                                                         \
    __shared__ Exchange exchange[2 * W];                                                                                \
    __shared__ double of_warp[BAND_WARPS];                                                                              \
    int band;                                                                                                           \
    const int number = own_task(owner, list, starts, &band);                                                            \
    if (states[number].done) return;                                                                                    \
    const Task t = tasks[number];                                                                                       \
    if (first)                                                                                                          \
      sweep<E, W, true>(t, band, kernel, mass, shift, scale, partial, dual, phi, columns, exchange, of_warp);           \
    else                                                                                                                \
      sweep<E, W, false>(t, band, kernel, mass, shift, scale, partial, dual, phi, columns, exchange, of_warp);          \
  }

SWEEP(4, 1)
SWEEP(8, 1)
#ifdef WIDE_LANES
SWEEP(12, 1)
SWEEP(16, 1)
SWEEP(16, 2)
SWEEP(16, 4)
SWEEP(16, 8)
#else
SWEEP(8, 2)
SWEEP(8, 4)
SWEEP(8, 8)
#endif
