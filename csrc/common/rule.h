// The numbers of a width rule: target = source / divisor + shift + noise, and fills where an index is new.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gk {

// Fields of noise version 1.
constexpr uint64_t kWidthField = 0, kCopyField = 1, kNewRowField = 2, kNewColumnField = 3, kNewBothField = 4;

struct Fill {
  double constant, std;
};

struct RuleNumbers {
  double divisor = 1, shift = 0, noise_std = 0;
  // Where the noise is measured: its std is float(sqrt(*square) * snr), and `noise_std` is not used. Read by the
  // kernel.
  const double* square = nullptr;
  double snr = 0;
  Fill new_column{}, new_row{}, new_both{};
  uint64_t key = 0;
  // Keep a block only where its column copy is its row copy modulo the number of column copies; zero elsewhere.
  bool diagonal = false;
};

GK_INLINE double measured_std(double square, double snr) { return double(float(GK_SQRT_DOUBLE(square) * snr)); }

GK_INLINE double noise_std(const RuleNumbers& numbers) {
  return numbers.square ? measured_std(*numbers.square, numbers.snr) : numbers.noise_std;
}

// sqrt(3) / 2: the triangle that the last three of an odd number of copies form in the plane of two normals.
constexpr double kTriangle = 0.86602540378443864676;

}  // namespace gk
