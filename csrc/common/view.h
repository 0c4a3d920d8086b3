// Tensors as kernels see them: a pointer, a dtype, sizes and strides in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dtype.h"
#include "extents.h"

namespace gk {

struct View {
  char* data = nullptr;
  DType dtype = DType::kFloat32;
  Extents sizes, strides;

  int64_t numel() const {
    int64_t n = 1;
    for (int64_t size : sizes) n *= size;
    return n;
  }
  int item() const { return element_size(dtype); }
  char* at(int64_t offset) const { return data + offset * item(); }
};

// The same elements in the same order with as few axes as possible, at least one.
View collapsed(const View& view);

// Views of one shape, walked in the order in which the elements of `leader` lie, and collapsed.
std::vector<View> walked(const std::vector<View>& views, const View& leader);

// The bytes that a non-empty view reaches: [first, last).
struct Reach {
  uintptr_t first, last;
};
Reach reach(const View& view);

// Whether two of a view's own elements may share memory.
bool self_overlapping(const View& view);

// Whether elements of two views may share memory. Exact for disjoint ranges and for column bands of one matrix.
bool overlapping(const View& a, const View& b);

// Calls run(offset, stride, done, count) for the pieces of elements [e, e + n) of a collapsed view, in row-major order:
// `count` elements from `offset` on, `stride` apart, after `done` others.
template <class Run>
void for_each_run(const View& view, int64_t e, int64_t n, const Run& run) {
  const size_t last = view.sizes.size() - 1;
  const int64_t length = view.sizes[last], stride = view.strides[last];
  for (int64_t done = 0; done < n;) {
    int64_t outer = (e + done) / length;
    const int64_t inner = (e + done) % length;
    const int64_t count = length - inner < n - done ? length - inner : n - done;
    int64_t offset = inner * stride;
    for (size_t axis = last; axis-- > 0; outer /= view.sizes[axis]) {
      offset += outer % view.sizes[axis] * view.strides[axis];
    }
    run(offset, stride, done, count);
    done += count;
  }
}

}  // namespace gk
