// Hopper's own instructions, a function each: matrix products of a warpgroup, bulk copies, barriers.
typedef u64 Barrier;

__device__ __forceinline__ void init_barrier(Barrier* b, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}

__device__ __forceinline__ void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

__device__ __forceinline__ void wait(Barrier* b, u32 phase) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra finished;\nbra again;\n"
      "finished:\n}\n" ::"r"(shared_address(b)),
      "r"(phase)
      : "memory");
}

// Copy a multiple of 16 bytes; the barrier's phase ends when they are there.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, u32 bytes, Barrier* b) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(b))
               : "memory");
}

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wait_products() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// An operand without swizzle: 8 x 8 matrices of 128 bytes; `along` bytes between the two of a step of 16 values,
// `across` bytes between neighbours along the rows, `after` bytes after `address`. All but the address are constants.
__device__ __forceinline__ u64 operand(u32 address, u32 after, u32 along, u32 across) {
  const u32 low = (address >> 4) + ((after >> 4) | (along >> 4) << 16);
  return (u64)(across >> 4) << 32 | low;
}

#define A8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define A64(d, i) A8(d, i), A8(d, i + 8), A8(d, i + 16), A8(d, i + 24), A8(d, i + 32), A8(d, i + 40), A8(d, i + 48), A8(d, i + 56)

// d (+)= a b for 64 rows and 128 columns. Thread (warp w, lane l) holds rows 16 w + l / 4 and that + 8 of columns
// 8 j + 2 (l % 4) and that + 1 in d[4 j .. 4 j + 3].
__device__ __forceinline__ void multiply(float (&d)[64], u64 a, u64 b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
      " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
      ", %64, %65, p, 1, 1, 0, 0;\n}\n"
      : A64(d, 0)
      : "l"(a), "l"(b), "r"(accumulate));
}
