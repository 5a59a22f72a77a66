// Mann-Whitney U of groups of cells against a control, for a block of genes.
//
//   2 U[t, g] = sum over cells i of t: #{control < x_ig} + #{control <= x_ig}
//
// The control's nonzero values are sorted gene by gene and put into a search tree of nodes with eight values; each nonzero
// value of a target cell is placed among them. A binary search would read three times as often, each time from another
// place. Zeros, stored or not, all have the same place: only what a value has beyond that is added here.
// Layout. Gene g, counted from first_gene, has controls starts[g] to starts[g + 1] - 1, and the nodes of its tree begin
// at trees[genes[g].first_node], level after level from the root.
// Thread map. A warp takes a cell, its lanes the entries of the row. Cells whose row is not here are left out.
// All sums are of integers, so the order of the atomic additions does not matter.
#include "rows.cuh"

// The leaves of a tree hold n values, ascending; a value of an inner node is the first one of a child. What fills the
// last node of a level repeats the largest value, which changes no place: places beyond n are n. n is less than 2^30.
constexpr int WIDTH = 8, BITS = 3;
struct alignas(WIDTH * sizeof(Value)) Node {
  Value values[WIDTH];
};

// What is known of a gene's controls, in one read.
struct alignas(16) Gene {
  i64 first_node;
  int n;           // nonzero values
  int below_zero;  // twice the place of a zero
};

// Of the root's level, which is the least for which WIDTH << (BITS * level) holds n > 0 values.
__device__ __forceinline__ int root_level(int n) {
  int level = 0;
  while ((n - 1) >> (BITS * (level + 1))) ++level;
  return level;
}

__device__ __forceinline__ int last_node(int n, int level) { return (n - 1) >> (BITS * (level + 1)); }

// How many values of a tree are below x (or equal to it, with OR_EQUAL), and whether the largest of them is x.
template <bool OR_EQUAL>
__device__ __forceinline__ int count_below(const Node* tree, int n, Value x, bool* found) {
  int at = 0;
  for (int level = root_level(n);; --level) {
    const Node node = tree[at];
    int below = 0;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) below += OR_EQUAL ? node.values[k] <= x : node.values[k] < x;
    if (level == 0) {
      *found = false;
#pragma unroll
      for (int k = 0; k < WIDTH; ++k) *found |= node.values[k] == x;
      return min(WIDTH * at + below, n);
    }
    tree += last_node(n, level) + 1;
    at = min(WIDTH * at + max(below - 1, 0), last_node(n, level - 1));
  }
}

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

// Fill the trees of all genes, a block of threads for each.
//   ranked   (starts[n_genes],) ascending in each gene
extern "C" __global__ void build_trees(const i64* __restrict__ starts, const Value* __restrict__ ranked,
                                       const Gene* __restrict__ genes, Node* __restrict__ trees) {
  const Gene gene = genes[blockIdx.x];
  if (gene.n == 0) return;
  Node* tree = trees + gene.first_node;
  for (int level = root_level(gene.n); level >= 0; --level) {
    const int n_values = WIDTH * (last_node(gene.n, level) + 1);
    for (int k = threadIdx.x; k < n_values; k += blockDim.x)
      tree[k / WIDTH].values[k % WIDTH] = ranked[starts[blockIdx.x] + min((i64)k << (BITS * level), (i64)gene.n - 1)];
    tree += n_values / WIDTH;
  }
}

//   group_of     (n_cells,)
//   twice        (n_groups, last_gene - first_gene)
extern "C" __global__ void place_values(ROWS_PARAMETERS, const i64* __restrict__ cells,
                                        const int* __restrict__ group_of, i64 n_cells, i64 n_control,
                                        int first_gene, int last_gene, const Gene* __restrict__ genes,
                                        const Node* __restrict__ trees, u64* twice) {
  const Rows rows = ROWS;
  i64 number;
  const i64 row = row_of_warp(rows, cells, n_cells, &number);
  if (row < 0) return;
  u64* out = twice + (i64)group_of[number] * (last_gene - first_gene);
  const i64 end = rows.find(row, last_gene);
  for (i64 entry = rows.find(row, first_gene) + (threadIdx.x & 31); entry < end; entry += 32) {
    const Value x = data[entry];
    if (x == 0) continue;
    const int g = rows.column(row, entry) - first_gene;
    const Gene gene = genes[g];
    i64 rank = 0;
    if (gene.n > 0) {
      const Node* tree = trees + gene.first_node;
      bool tied, same;
      rank = count_below<true>(tree, gene.n, x, &tied);
      rank += tied ? count_below<false>(tree, gene.n, x, &same) : rank;
    }
    if (x > 0) rank += 2 * (n_control - gene.n);
    atomicAdd(out + g, (u64)(rank - gene.below_zero));  // modulo 2^64, as signed numbers
  }
}
