// What kernels are asked to do: host-side descriptions, checked by the caller, the same for every backend.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "axis.h"
#include "rule.h"
#include "view.h"

namespace gk {

// Whether arithmetic is in float64: if either side is stored in it.
GK_INLINE bool computes_in_double(DType a, DType b) { return a == DType::kFloat64 || b == DType::kFloat64; }
inline bool computes_in_double(const std::vector<View>& a, const std::vector<View>& b) {
  const auto wide = [](const View& view) { return view.dtype == DType::kFloat64; };
  return std::any_of(a.begin(), a.end(), wide) || std::any_of(b.begin(), b.end(), wide);
}

struct TileJob {
  View out, weight;  // two axes each
  Axis rows, cols;
  RuleNumbers numbers;

  bool takes_noise() const { return (numbers.noise_std != 0 || numbers.square) && cols.copies() > 1; }
  bool draws_normals() const {
    return takes_noise() || numbers.new_column.std != 0 || numbers.new_row.std != 0 || numbers.new_both.std != 0;
  }
};

// outs[i] = (1 - alpha) * (scale[i] * blocks[index[i]]) + alpha * (std * z), or scale[i] * blocks[index[i]] where alpha
// is zero. Element e of the noise counts over the outputs laid end to end.
struct ReplicateNumbers {
  std::vector<int64_t> index;
  std::vector<double> scale;
  double alpha, std;
  uint64_t key;
};

// The kernels of one backend. Memory, that of `means` too, is where the backend works; work on a GPU is queued on the
// current stream of the current device.
struct Kernels {
  // Write every target by its rule.
  void (*tile)(const std::vector<TileJob>& jobs);
  void (*replicate)(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);
  // means[i] = mean of (x / divisors[i])^2 of views[i] in one fixed order; 0 for an empty one.
  void (*mean_square)(double* means, const std::vector<View>& views, const std::vector<double>& divisors);
  // out[e] = z(key, field, start + e) in row-major order.
  void (*normal)(const View& out, uint64_t key, uint64_t field, uint64_t start);
  // outs[l] = sum over k of coefficients[l, k] * sources[k], in that order, every product and sum rounded; all of one
  // shape.
  void (*mix)(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients);
  // out[l, k] += <left[l], right[k]>, summed in one fixed order; all of one shape.
  void (*inner_products)(const View& out, const std::vector<View>& left, const std::vector<View>& right);
};

}  // namespace gk
