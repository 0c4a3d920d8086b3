// The inner loops for AVX2.
#include "../common/macros.h"

#if defined(GK_X86)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2")
#endif
#define GK_ISA avx2
#define GK_VECTOR_BYTES 32
#include "vector_loops.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
