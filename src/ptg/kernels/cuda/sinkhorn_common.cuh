// Shared by the kernels of entropic transport.
//
// A task is one pair of groups in one draw. The larger group gives the rows i, the other one the columns j. With
//
//   x_ij = 2 log2(e) / epsilon * u_i.v_j      (u, v: cells centred on their own group)
//
// the plan is P_ij = a_i b_j 2^(phi_i + psi_j + x_ij): the other terms of the cost have one index and join the potentials
// phi and psi, which are in units of epsilon and powers of two.
//   Real    type of the cells and of x: float or double
//   Chain   type in which products are summed, of at most 32 numbers in a float; sums of those are double
#include "block_sums.cuh"

typedef long long i64;

#ifndef Real
#define Real float
#endif
#ifndef Chain
#define Chain float
#endif

// Finite, so that differences are no NaN, and beyond every exponent.
#define LARGE 1e30f

struct Task {
  i64 kernel;      // first of the n x ld values x
  i64 rows;        // first place of the rows in the lists of cells and masses
  i64 columns;     // likewise of the columns
  i64 vectors;     // first place in the vectors over columns
  i64 partial;     // first of the n_bands x ld column sums
  i64 dual;        // first of the n_duals parts of sum(a phi)
  double factor;   // 2 log2(e) / epsilon
  int n, m;        // rows and columns
  int ld;          // m, up to a multiple of 8
  int n_bands, n_duals;
  int row_set, column_set;
  int unused;
};

// A block's task, and its number among the blocks of that task.
//   owner    position in `list` of each block
//   starts   first block of each position
__device__ __forceinline__ int own_task(const int* owner, const int* list, const i64* starts, int* number) {
  const int position = owner[blockIdx.x];
  *number = (int)((i64)blockIdx.x - starts[position]);
  return list[position];
}

__device__ __forceinline__ float power_of_two(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
__device__ __forceinline__ double power_of_two(double x) { return exp2(x); }

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }
