// A strided view that fits into kernel parameters.
#pragma once

#include <stdexcept>
#include <string>

#include "../common/view.h"

namespace gk::cuda {

constexpr int kMaxAxes = 8;

struct FlatView {
  char* data;
  DType dtype;
  int axes;
  int64_t sizes[kMaxAxes], strides[kMaxAxes];

  // Where element e, counted in row-major order, lies.
  GK_INLINE char* at(int64_t e) const {
    int64_t offset = 0;
    for (int axis = axes - 1; axis > 0; --axis) {
      offset += e % sizes[axis] * strides[axis];
      e /= sizes[axis];
    }
    return data + (offset + e * strides[0]) * element_size(dtype);
  }
};

inline FlatView flat_view(const View& view) {
  const View few = collapsed(view);
  if (few.sizes.size() > kMaxAxes) {
    throw std::runtime_error("a tensor has " + std::to_string(few.sizes.size()) +
                             " axes that do not follow one another in"
                             " memory, at most 8 are taken; make it contiguous first");
  }
  FlatView flat{few.data, few.dtype, int(few.sizes.size()), {}, {}};
  for (int axis = 0; axis < flat.axes; ++axis) {
    flat.sizes[axis] = few.sizes[axis];
    flat.strides[axis] = few.strides[axis];
  }
  return flat;
}

}  // namespace gk::cuda
