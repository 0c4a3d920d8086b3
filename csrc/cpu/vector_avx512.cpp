// The inner loops for AVX-512 (F, BW, DQ, VL).
#include "../common/macros.h"

#if defined(GK_X86)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,prefer-vector-width=512")
#endif
#define GK_ISA avx512
#define GK_VECTOR_BYTES 64
#include "vector_loops.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
