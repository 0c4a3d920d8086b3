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

// The key of every round. Made where the key is: kernels take it as a constant.
struct KeySchedule {
  uint32_t low[kPhiloxRounds], high[kPhiloxRounds];

  KeySchedule() = default;
  GK_INLINE KeySchedule(uint64_t key) {
    for (int round = 0; round < kPhiloxRounds; ++round) {
      low[round] = uint32_t(key) + round * kPhiloxW0;
      high[round] = uint32_t(key >> 32) + round * kPhiloxW1;
    }
  }
};

// One block of four words from a 128-bit counter, given low word first, and a 64-bit key.
GK_INLINE Words philox(Words c, const KeySchedule& key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = wide_product(c.w[0], kPhiloxM0), p1 = wide_product(c.w[2], kPhiloxM1);
    c = {{uint32_t(p1 >> 32) ^ c.w[1] ^ key.low[round], uint32_t(p1), uint32_t(p0 >> 32) ^ c.w[3] ^ key.high[round],
          uint32_t(p0)}};
  }
  return c;
}

}  // namespace gk
