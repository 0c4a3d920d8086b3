// Consecutive elements of a collapsed view, from and to contiguous buffers.
#pragma once

#include <algorithm>

#include "../common/view.h"
#include "vector.h"

namespace gk {

template <class Compute>
void load(Compute* values, const View& view, int64_t e, int64_t n) {
  const auto run_loop = loops().compute<Compute>().load[int(view.dtype)];
  for_each_run(view, e, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
    run_loop(values + done, view.at(offset), stride, count);
  });
}

// `stored` is in the view's dtype already. Who streams, past the caches, fences before another thread reads.
inline void write(const View& view, int64_t e, int64_t n, const void* stored, bool streamed) {
  const int item = view.item();
  for_each_run(view, e, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
    const char* from = static_cast<const char*>(stored) + done * item;
    if (stride == 1 && streamed) {
      loops().stream(view.at(offset), 0, from, 0, 1, count * item);
    } else if (stride == 1) {
      std::copy(from, from + count * item, view.at(offset));
    } else {
      for (int64_t i = 0; i < count; ++i)
        std::copy(from + i * item, from + (i + 1) * item, view.at(offset + i * stride));
    }
  });
}

}  // namespace gk
