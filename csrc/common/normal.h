// Two standard normals from two random words: noise version 1, to the bit.
//
// Every product, sum and square root is rounded once in fp32. Hosts compile with -ffp-contract=off, CUDA with
// -fmad=false.
#pragma once

#include <cstdint>

#include "macros.h"
#include "philox.h"

namespace gk {

struct Pair {
  float z0, z1;
};

// Two normals from the bits `b` of u * 2^s, `top` = (31 + s) * 2^23, and the second word.
GK_INLINE Pair normal_pair_of(uint32_t b, int32_t top, uint32_t y) {
  const uint32_t t = (b - 0x3f3504f3u) & 0xff800000u;
  const float f = bits<float>(b - t) - 1.0f;
  // k times 2^23; its product with ln 2 is the same as of k itself.
  const float k = float(top - int32_t(t));
  float p = -0.1429155320f;
  p = p * f + 0.2205577791f;
  p = p * f + -0.2540333271f;
  p = p * f + 0.3325803578f;
  p = p * f + -0.4999021590f;
  p = p * f + 1.000004530f;
  const float radius = square_root(k * (0.693147182f * 0x1p-23f) - f * p);

  const float a = bits<float>(masked_or<0x007fffffu, 0x3f800000u>(y)) - 1.5f;
  const float v = a * a;
  const float s = a * ((0.07793992758f * v + -0.6457980275f) * v + 1.570793986f);
  const float c = ((-0.02039858140f * v + 0.2535949349f) * v + -1.233696699f) * v + 0.9999999404f;
  return {bits<float>(bits<uint32_t>(radius * (c - s)) ^ (y & 0x80000000u)),
          bits<float>(bits<uint32_t>(radius * (c + s)) ^ ((y << 1) & 0x80000000u))};
}

GK_INLINE Pair normal_pair(uint32_t x, uint32_t y) {
  return normal_pair_of(bits<uint32_t>(float(int32_t((x >> 1) | 1u))), 0x0f800000, y);
}

// The same from 2 u, which a GPU makes with one instruction less; vector units of CPUs convert signed integers only.
GK_INLINE Pair normal_pair_of_twice(uint32_t x, uint32_t y) {
  return normal_pair_of(bits<uint32_t>(float(masked_or<0xfffffffeu, 2u>(x))), 0x10000000, y);
}

// The four normals of one counter.
struct Quad {
  float z[4];
};

GK_INLINE Quad normal_quad(const KeySchedule& key, uint64_t field, uint64_t quad) {
  const Words counter{{uint32_t(quad), uint32_t(quad >> 32), uint32_t(field), uint32_t(field >> 32)}};
  const Words words = philox(counter, key);
  const Pair first = normal_pair_of_twice(words.w[0], words.w[1]);
  const Pair second = normal_pair_of_twice(words.w[2], words.w[3]);
  return {{first.z0, first.z1, second.z0, second.z1}};
}

}  // namespace gk
