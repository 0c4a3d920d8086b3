// A strided view that fits into kernel parameters.
#pragma once

#include <string>

#include "../common/refusal.h"
#include "../common/view.h"
#include "lanes.h"

namespace gk::cuda {

constexpr int kMaxAxes = 8;

struct Division {
  int64_t quotient, rest;
};

// Of numbers that are not negative. Dividing 64-bit integers is a long subroutine on a GPU: where 32 bits do, they do.
GK_INLINE Division divide(int64_t a, int64_t b) {
  if ((a | b) >> 32 == 0) {
    const uint32_t quotient = uint32_t(a) / uint32_t(b);
    return {quotient, uint32_t(a) - quotient * uint32_t(b)};
  }
  return {a / b, a % b};
}

struct FlatView {
  char* data;
  DType dtype;
  int axes;
  int64_t sizes[kMaxAxes], strides[kMaxAxes];

  // Where element e, counted in row-major order, lies.
  GK_INLINE char* at(int64_t e) const {
    int64_t offset = 0;
    GK_ROLLED
    for (int axis = axes - 1; axis > 0; --axis) {
      const Division place = divide(e, sizes[axis]);
      offset += place.rest * strides[axis];
      e = place.quotient;
    }
    return data + (offset + e * strides[0]) * element_size(dtype);
  }
};

inline FlatView flat_view(const View& view) {
  const View few = collapsed(view);
  if (few.sizes.size() > kMaxAxes) {
    throw Refusal("a tensor has " + std::to_string(few.sizes.size()) +
                  " axes that do not follow one another in memory, the CUDA kernels take " + std::to_string(kMaxAxes) +
                  "; make it contiguous first, or choose backend 'triton'");
  }
  FlatView flat{few.data, few.dtype, int(few.sizes.size()), {}, {}};
  for (int axis = 0; axis < flat.axes; ++axis) {
    flat.sizes[axis] = few.sizes[axis];
    flat.strides[axis] = few.strides[axis];
  }
  return flat;
}

}  // namespace gk::cuda
