// The fixed order of `mean_square`: blocks of consecutive elements, each summed in interleaved lanes, each lane in
// order; the lanes are added by halving (lane l takes lane l + 16, then l + 8, ...). Sums of blocks are summed by the
// same scheme until one is left.
#pragma once

#include <cstdint>

namespace gk {

constexpr int64_t kSumBlock = 4096;
constexpr int kSumLanes = 32;

}  // namespace gk
