#include "view.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace gk {

View collapsed(const View& view) {
  View result{view.data, view.dtype, {}, {}};
  for (size_t axis = 0; axis < view.sizes.size(); ++axis) {
    const int64_t size = view.sizes[axis], stride = view.strides[axis];
    if (size == 1) continue;
    if (!result.sizes.empty() && result.strides.back() == size * stride) {
      result.sizes.back() *= size;
      result.strides.back() = stride;
    } else {
      result.sizes.push_back(size);
      result.strides.push_back(stride);
    }
  }
  if (result.sizes.empty()) {
    result.sizes = {1};
    result.strides = {1};
  }
  return result;
}

std::vector<View> walked(const std::vector<View>& views, const View& leader) {
  const bool down_columns = leader.sizes.size() == 2 && leader.sizes[0] > 1 && leader.strides[0] < leader.strides[1];
  std::vector<View> result;
  for (View view : views) {
    if (down_columns) {
      std::swap(view.sizes[0], view.sizes[1]);
      std::swap(view.strides[0], view.strides[1]);
    }
    result.push_back(collapsed(view));
  }
  return result;
}

Reach reach(const View& view) {
  int64_t span = 0;
  for (size_t axis = 0; axis < view.sizes.size(); ++axis) span += (view.sizes[axis] - 1) * view.strides[axis];
  const auto first = reinterpret_cast<uintptr_t>(view.data);
  return {first, first + (span + 1) * view.item()};
}

bool self_overlapping(const View& view) {
  if (view.numel() == 0) return false;
  int64_t inner = 0;
  bool nested = true;  // each axis steps over all that comes after it
  for (size_t axis = view.sizes.size(); axis-- > 0 && nested;) {
    if (view.sizes[axis] == 1) continue;
    nested = view.strides[axis] > inner;
    inner += view.strides[axis] * (view.sizes[axis] - 1);
  }
  if (nested) return false;
  std::vector<std::pair<int64_t, int64_t>> axes;
  for (size_t axis = 0; axis < view.sizes.size(); ++axis) {
    if (view.sizes[axis] > 1) axes.emplace_back(view.strides[axis], view.sizes[axis]);
  }
  std::sort(axes.begin(), axes.end());
  int64_t span = 0;
  for (const auto& [stride, size] : axes) {
    if (stride <= span) return true;
    span += stride * (size - 1);
  }
  return false;
}

namespace {

// The same elements, with as few axes as possible in the order in which they lie in memory; on one axis, elements that
// are apart are rows of one element.
View bands(const View& view) {
  std::vector<size_t> axes(view.sizes.size());
  std::iota(axes.begin(), axes.end(), size_t{0});
  std::stable_sort(axes.begin(), axes.end(), [&](size_t i, size_t j) { return view.strides[i] > view.strides[j]; });
  View result{view.data, view.dtype, {}, {}};
  for (size_t axis : axes) {
    result.sizes.push_back(view.sizes[axis]);
    result.strides.push_back(view.strides[axis]);
  }
  result = collapsed(result);
  if (result.sizes.size() == 1 && result.strides[0] != 1) {
    result.sizes.push_back(1);
    result.strides.push_back(1);
  }
  return result;
}

}  // namespace

bool overlapping(const View& a, const View& b) {
  if (a.numel() == 0 || b.numel() == 0) return false;
  const Reach ra = reach(a), rb = reach(b);
  if (ra.last <= rb.first || rb.last <= ra.first) return false;
  // Bands of one matrix: rows the same distance apart, each inside one period at another place.
  const View ca = bands(a), cb = bands(b);
  if (ca.sizes.size() != 2 || cb.sizes.size() != 2) return true;
  const int64_t period = ca.strides[0] * ca.item();
  if (period <= 0 || period != cb.strides[0] * cb.item()) return true;
  const int64_t width_a = ((ca.sizes[1] - 1) * ca.strides[1] + 1) * ca.item();
  const int64_t width_b = ((cb.sizes[1] - 1) * cb.strides[1] + 1) * cb.item();
  const int64_t shift = rb.first >= ra.first ? int64_t(rb.first - ra.first) % period
                                             : (period - int64_t(ra.first - rb.first) % period) % period;
  return shift < width_a || shift + width_b > period;
}

}  // namespace gk
