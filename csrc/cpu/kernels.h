// The CPU kernels: raw pointers and plain numbers, checked by the caller.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/rule.h"
#include "axis.h"
#include "view.h"

namespace gk {

// Whether arithmetic is in float64: if either side is stored in it.
inline bool computes_in_double(DType a, DType b) { return a == DType::kFloat64 || b == DType::kFloat64; }

// Calls that write this much without noise go past the caches: their targets would not stay there anyway.
constexpr int64_t kStreamBytes = int64_t{8} << 20;

struct TileJob {
  View out, weight;  // two axes each
  Axis rows, cols;
  RuleNumbers numbers;
};

// Write every target by its rule; all jobs share the threads.
void tile(const std::vector<TileJob>& jobs);

// outs[i] = (1 - alpha) * (scale[i] * blocks[index[i]]) + alpha * (std * z), or scale[i] * blocks[index[i]] where alpha
// is zero. Element e of the noise counts over the outputs laid end to end.
struct ReplicateNumbers {
  std::vector<int64_t> index;
  std::vector<double> scale;
  double alpha, std;
  uint64_t key;
};
void replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);

// Mean of (x / divisor)^2 of each view in one fixed order; 0 for an empty one.
std::vector<double> mean_square(const std::vector<View>& views, const std::vector<double>& divisors);

// out[e] = z(key, field, start + e) in row-major order.
void normal(const View& out, uint64_t key, uint64_t field, uint64_t start);

}  // namespace gk
