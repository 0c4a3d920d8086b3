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

GK_INLINE Pair normal_pair(uint32_t x, uint32_t y) {
  const float u = float(int32_t((x >> 1) | 1u));
  const uint32_t b = bits<uint32_t>(u);
  const uint32_t t = (b - 0x3f3504f3u) & 0xff800000u;
  const float f = bits<float>(b - t) - 1.0f;
  // 31 less the exponent in t, times 2^23; its product with ln 2 is the same as of the number itself.
  const float k = float(0x0f800000 - int32_t(t));
  float p = -0.1429155320f;
  p = p * f + 0.2205577791f;
  p = p * f + -0.2540333271f;
  p = p * f + 0.3325803578f;
  p = p * f + -0.4999021590f;
  p = p * f + 1.000004530f;
  const float radius = square_root(k * (0.693147182f * 0x1p-23f) - f * p);

  const float a = bits<float>(0x3f800000u | (y & 0x007fffffu)) - 1.5f;
  const float v = a * a;
  const float s = a * ((0.07793992758f * v + -0.6457980275f) * v + 1.570793986f);
  const float c = ((-0.02039858140f * v + 0.2535949349f) * v + -1.233696699f) * v + 0.9999999404f;
  return {bits<float>(bits<uint32_t>(radius * (c - s)) ^ (y & 0x80000000u)),
          bits<float>(bits<uint32_t>(radius * (c + s)) ^ ((y << 1) & 0x80000000u))};
}

// The four normals of one counter.
struct Quad {
  float z[4];
};

GK_INLINE Quad normal_quad(const KeySchedule& key, uint64_t field, uint64_t quad) {
  const Words counter{{uint32_t(quad), uint32_t(quad >> 32), uint32_t(field), uint32_t(field >> 32)}};
  const Words words = philox(counter, key);
  const Pair first = normal_pair(words.w[0], words.w[1]), second = normal_pair(words.w[2], words.w[3]);
  return {{first.z0, first.z1, second.z0, second.z1}};
}

}  // namespace gk
