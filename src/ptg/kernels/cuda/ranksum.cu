// Mann-Whitney U of groups of cells against a control, for a block of genes.
//
//   2 U[t, g] = sum over cells i of t: #{control < x_ig} + #{control <= x_ig}
//
// The control's nonzero values are sorted gene by gene; each nonzero value of a target cell is placed among them by
// binary search. Zeros, stored or not, all have the same place: only what a value has beyond that is added here.
// Layout. Gene g, counted from first_gene, has controls ranked[starts[g]] to ranked[starts[g + 1] - 1].
// Thread map. A warp takes a cell, its lanes the entries of the row. Cells whose row is not here are left out.
// All sums are of integers, so the order of the atomic additions does not matter.
#include "rows.cuh"

// The cell of this warp, or -1: none, or its row is elsewhere.
__device__ __forceinline__ i64 row_of_warp(const Rows& rows, const i64* cells, i64 n_cells, i64* number) {
  *number = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (*number >= n_cells) return -1;
  const i64 row = cells[*number];
  return rows.holds(row) ? row : -1;
}

//   counts   (2, n_columns) zeros: becomes how many cells have a value below and above zero
extern "C" __global__ void count_signs(ROWS_PARAMETERS, const i64* __restrict__ cells, i64 n_cells, u64* counts) {
  const Rows rows = ROWS;
  i64 number;
  const i64 row = row_of_warp(rows, cells, n_cells, &number);
  if (row < 0) return;
  const i64 end = rows.end(row);
  for (i64 entry = rows.begin(row) + (threadIdx.x & 31); entry < end; entry += 32) {
    const Value x = data[entry];
    if (x != 0) atomicAdd(counts + (x > 0 ? n_columns : 0) + rows.column(row, entry), (u64)1);
  }
}

// Bring the nonzero values of the genes first_gene <= g < last_gene together, gene by gene, in any order.
//   filled   (last_gene - first_gene,) zeros
extern "C" __global__ void gather_values(ROWS_PARAMETERS, const i64* __restrict__ cells, i64 n_cells, int first_gene,
                                         int last_gene, const i64* __restrict__ starts, u64* filled,
                                         Value* __restrict__ values, int* __restrict__ genes) {
  const Rows rows = ROWS;
  i64 number;
  const i64 row = row_of_warp(rows, cells, n_cells, &number);
  if (row < 0) return;
  const i64 end = rows.find(row, last_gene);
  for (i64 entry = rows.find(row, first_gene) + (threadIdx.x & 31); entry < end; entry += 32) {
    const Value x = data[entry];
    if (x == 0) continue;
    const int gene = rows.column(row, entry) - first_gene;
    const i64 at = starts[gene] + (i64)atomicAdd(filled + gene, (u64)1);
    values[at] = x;
    genes[at] = gene;
  }
}

//   group_of     (n_cells,)
//   below_zero   twice the place of a zero among all controls of a gene
//   twice        (n_groups, last_gene - first_gene)
extern "C" __global__ void place_values(ROWS_PARAMETERS, const i64* __restrict__ cells,
                                        const int* __restrict__ group_of, i64 n_cells, i64 n_control,
                                        int first_gene, int last_gene, const i64* __restrict__ starts,
                                        const Value* __restrict__ ranked,
                                        const i64* __restrict__ below_zero, u64* twice) {
  const Rows rows = ROWS;
  i64 number;
  const i64 row = row_of_warp(rows, cells, n_cells, &number);
  if (row < 0) return;
  u64* out = twice + (i64)group_of[number] * (last_gene - first_gene);
  const i64 end = rows.find(row, last_gene);
  for (i64 entry = rows.find(row, first_gene) + (threadIdx.x & 31); entry < end; entry += 32) {
    const Value x = data[entry];
    if (x == 0) continue;
    const int gene = rows.column(row, entry) - first_gene;
    const i64 start = starts[gene], stop = starts[gene + 1];
    i64 low = start, high = stop;
    while (low < high) {
      const i64 middle = (low + high) >> 1;
      if (ranked[middle] < x) low = middle + 1;
      else high = middle;
    }
    i64 rank = 2 * (low - start);
    if (low < stop && ranked[low] == x) {
      const i64 first_equal = low;
      high = stop;
      while (low < high) {
        const i64 middle = (low + high) >> 1;
        if (ranked[middle] <= x) low = middle + 1;
        else high = middle;
      }
      rank += low - first_equal;
    }
    if (x > 0) rank += 2 * (n_control - (stop - start));
    atomicAdd(out + gene, (u64)(rank - below_zero[gene]));  // modulo 2^64, as signed numbers
  }
}
