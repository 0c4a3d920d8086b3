// Index vectors: for each index of a target axis, the source index and the copy it comes from.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gk {

// `length` source indices from `start`, cut into `groups` equal groups, each laid down `copies` times before the next
// one starts. `start` < 0 marks new entries without a source (one copy, one group).
struct Segment {
  int64_t start, length, copies, groups;

  GK_INLINE bool is_new() const { return start < 0; }
  GK_INLINE int64_t group_length() const { return length / groups; }
  GK_INLINE int64_t size() const { return length * copies; }

  // Where, from the segment's first target index, copy `copy` of the `offset`-th source index lies.
  GK_INLINE int64_t target(int64_t offset, int64_t copy) const {
    const int64_t group = group_length();
    return (offset / group * copies + copy) * group + offset % group;
  }
};

}  // namespace gk
