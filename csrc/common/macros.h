// What lets one header compile as C++ and as CUDA C++.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define GK_INLINE __host__ __device__ __forceinline__
#else
#define GK_INLINE inline __attribute__((always_inline))
#endif

// A square root, correctly rounded, in fp64.
#if defined(__CUDA_ARCH__)
#define GK_SQRT_DOUBLE(x) __dsqrt_rn(x)
#else
#define GK_SQRT_DOUBLE(x) __builtin_sqrt(x)
#endif

// Intrinsics of x86-64. GK_PORTABLE leaves them out, to test what other machines compile.
#if defined(__x86_64__) && !defined(GK_PORTABLE)
#define GK_X86
#endif

namespace gk {

// The bits of a value as another type of the same size.
template <class To, class From>
GK_INLINE To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits() keeps the size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// Both halves of a product. nvcc multiplies 64-bit integers in more steps if it is not told.
GK_INLINE uint64_t wide_product(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#else
  return uint64_t{a} * b;
#endif
}

// (x & kMask) | kSet. Where both are constants nvcc makes two instructions of it, a GPU has one.
template <uint32_t kMask, uint32_t kSet>
GK_INLINE uint32_t masked_or(uint32_t x) {
#if defined(__CUDA_ARCH__)
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(x), "n"(kMask), "n"(kSet));
  return result;
#else
  return (x & kMask) | kSet;
#endif
}

// The square root, correctly rounded, of zero or of a number from 2^-100 on.
//
// nvcc compiles __fsqrt_rn to these very operations for arguments in that range, behind a branch that keeps neighboring
// roots from overlapping and costs four instructions more. A zero comes out as one: 0 * rsqrt(2^-100) and no remainder.
GK_INLINE float square_root(float x) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(fmaxf(x, 0x1p-100f)));
  const float root = __fmul_rn(x, inverse), half = __fmul_rn(inverse, 0.5f);
  return __fmaf_rn(__fmaf_rn(-root, root, x), half, root);
#else
  return __builtin_sqrtf(x);
#endif
}

}  // namespace gk
