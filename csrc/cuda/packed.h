// Stored items side by side in registers, and the values they stand for.
//
// A GPU converts with its own instructions, which round to nearest even as csrc/common/dtype.h does; only the payload
// of a NaN may differ.
#pragma once

#include <type_traits>

#include "../common/dtype.h"
#include "memory.h"

namespace gk::cuda {

// Two 16-bit items in one word, the first one low.
template <class Format>
GK_KERNEL uint32_t pack_two(float first, float second) {
#if defined(__CUDACC__)
  uint32_t word;
  if constexpr (std::is_same_v<Format, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  }
  return word;
#else
  return uint32_t{Format::store(first)} | uint32_t{Format::store(second)} << 16;
#endif
}

// One 16-bit item; an fp32 value by the machine's own instruction.
template <class Format, class Compute>
GK_KERNEL uint16_t pack_one(Compute value) {
#if defined(__CUDACC__)
  if constexpr (std::is_same_v<Compute, float>) return uint16_t(pack_two<Format>(value, 0.0f));
#endif
  return Format::store(value);
}

GK_KERNEL float unpack_half(uint16_t half) {
#if defined(__CUDACC__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
#else
  return Float16::load(half);
#endif
}

template <class Format>
GK_KERNEL void unpack_two(float& first, float& second, uint32_t word) {
  if constexpr (std::is_same_v<Format, BFloat16>) {
    first = bits<float>(word << 16);
    second = bits<float>(word & 0xffff0000u);
  } else {
    first = unpack_half(uint16_t(word));
    second = unpack_half(uint16_t(word >> 16));
  }
}

// Two 16-bit items less two others, rounded once. A difference in fp32 that is then rounded to 16 bits is the same: it
// is exact unless one item is so much the smaller that what fp32 drops does not reach the middle between two items.
// Zeros, infinities and what overflows come out alike; subnormals are kept.
template <class Format>
GK_KERNEL uint32_t subtract_two(uint32_t from, uint32_t what) {
#if defined(__CUDACC__)
  uint32_t word;
  if constexpr (std::is_same_v<Format, BFloat16>) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(what), "r"(0xbf80bf80u), "r"(from));
  } else {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(what), "r"(0xbc00bc00u), "r"(from));
  }
  return word;
#else
  float a, b, c, d;
  unpack_two<Format>(a, b, from);
  unpack_two<Format>(c, d, what);
  return pack_two<Format>(a - c, b - d);
#endif
}

template <class Format, int kCount>
GK_KERNEL Words<int(sizeof(typename Format::Storage)) * kCount> pack(const float (&values)[kCount]) {
  Words<int(sizeof(typename Format::Storage)) * kCount> words;
  if constexpr (std::is_same_v<Format, Float32>) {
    GK_UNROLL
    for (int i = 0; i < kCount; ++i) words.w[i] = bits<uint32_t>(values[i]);
  } else {
    GK_UNROLL
    for (int i = 0; i < kCount; i += 2) words.w[i / 2] = pack_two<Format>(values[i], values[i + 1]);
  }
  return words;
}

template <class Format, int kCount>
GK_KERNEL void unpack(float (&values)[kCount], const Words<int(sizeof(typename Format::Storage)) * kCount>& words) {
  if constexpr (std::is_same_v<Format, Float32>) {
    GK_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = bits<float>(words.w[i]);
  } else {
    GK_UNROLL
    for (int i = 0; i < kCount; i += 2) unpack_two<Format>(values[i], values[i + 1], words.w[i / 2]);
  }
}

}  // namespace gk::cuda
