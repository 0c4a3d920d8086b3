// Accesses of kernels to tensors: 2 to 32 bytes at once, from memory that no thread writes, to memory that none reads
// again. Addresses are multiples of the size (32 bytes: of 16).
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"
#if !defined(__CUDACC__)
#include "emulate.h"  // of tests/emulated, which alone compiles this as C++
#endif

namespace gk::cuda {

template <int Bytes>
struct Words {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16 || Bytes == 32, "an access of the machine, or two");
  uint32_t w[Bytes / 4];
};
template <>
struct Words<2> {
  uint16_t w[1];
};

#if defined(__CUDACC__)

// The stores are written out because CUDA's own __stcs makes the compiler forget what it has read from shared memory.

template <int Bytes>
GK_KERNEL Words<Bytes> load_words(const void* from) {
  Words<Bytes> words;
  if constexpr (Bytes == 2) {
    words.w[0] = __ldg(static_cast<const unsigned short*>(from));
  } else if constexpr (Bytes == 4) {
    words.w[0] = __ldg(static_cast<const unsigned*>(from));
  } else if constexpr (Bytes == 8) {
    const uint2 x = __ldg(static_cast<const uint2*>(from));
    words.w[0] = x.x, words.w[1] = x.y;
  } else {
    GK_UNROLL
    for (int i = 0; i < Bytes / 16; ++i) {
      const uint4 x = __ldg(static_cast<const uint4*>(from) + i);
      words.w[4 * i] = x.x, words.w[4 * i + 1] = x.y, words.w[4 * i + 2] = x.z, words.w[4 * i + 3] = x.w;
    }
  }
  return words;
}

template <int Bytes>
GK_KERNEL void store_words(void* to, const Words<Bytes>& words) {
  const auto& w = words.w;
  const size_t at = __cvta_generic_to_global(to);
  if constexpr (Bytes == 2) {
    asm volatile("st.global.cs.u16 [%0], %1;" ::"l"(at), "h"(w[0]));
  } else if constexpr (Bytes == 4) {
    asm volatile("st.global.cs.u32 [%0], %1;" ::"l"(at), "r"(w[0]));
  } else if constexpr (Bytes == 8) {
    asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" ::"l"(at), "r"(w[0]), "r"(w[1]));
  } else {
    GK_UNROLL
    for (int i = 0; i < Bytes / 16; ++i) {
      asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at + 16 * i), "r"(w[4 * i]), "r"(w[4 * i + 1]),
                   "r"(w[4 * i + 2]), "r"(w[4 * i + 3]));
    }
  }
}

#else

template <int Bytes>
GK_KERNEL Words<Bytes> load_words(const void* from) {
  Words<Bytes> words;
  traffic().note(traffic().read, from, Bytes);
  std::memcpy(&words, from, Bytes);
  return words;
}

template <int Bytes>
GK_KERNEL void store_words(void* to, const Words<Bytes>& words) {
  traffic().note(traffic().written, to, Bytes);
  std::memcpy(to, &words, Bytes);
}

#endif

}  // namespace gk::cuda
