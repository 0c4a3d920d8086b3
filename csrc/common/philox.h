// Philox4x32 with 7 rounds (Salmon et al., SC 2011): the random words of noise version 1.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gk {

constexpr int kPhiloxRounds = 7;
constexpr uint32_t kPhiloxM0 = 0xD2511F53, kPhiloxM1 = 0xCD9E8D57;
constexpr uint32_t kPhiloxW0 = 0x9E3779B9, kPhiloxW1 = 0xBB67AE85;

struct Words {
  uint32_t w[4];
};

// One block of four words from a 128-bit counter and a 64-bit key, both given low word first.
GK_INLINE Words philox(Words c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = uint64_t{c.w[0]} * kPhiloxM0, p1 = uint64_t{c.w[2]} * kPhiloxM1;
    c = {{uint32_t(p1 >> 32) ^ c.w[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c.w[3] ^ k1, uint32_t(p0)}};
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  return c;
}

}  // namespace gk
