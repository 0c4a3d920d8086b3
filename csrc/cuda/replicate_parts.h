// What `replicate` is cut into: stretches that vectors of 16 bytes copy, by pairs of dtypes, and those that go by
// elements.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "../common/jobs.h"
#include "flat_view.h"

namespace gk::cuda {

// A range of `count` vectors or elements of a source, and its copies. `first_element`: the noise's at its beginning;
// `moves`: bits go over as they are.
struct VectorGroup {
  const char* source;
  int64_t count, first_task;
  int32_t first_copy, copies;
};
struct VectorCopy {
  char* out;
  uint64_t first_element;
  float scale;
  bool moves;
};
struct ElementGroup {
  FlatView source;
  int64_t count, first_task;
  int32_t first_copy, copies;
};
struct ElementCopy {
  FlatView out;
  uint64_t first_element;
  double scale;
  bool moves;
};

template <class GroupOf, class CopyOf>
struct Part {
  using Group = GroupOf;
  using Copy = CopyOf;
  std::vector<Group> groups;
  std::vector<Copy> copies;
};

struct Parts {
  // By the dtypes of source and output.
  std::map<std::pair<DType, DType>, Part<VectorGroup, VectorCopy>> vectors;
  Part<ElementGroup, ElementCopy> elements;
};

// Elements that one access of 16 bytes carries at the wider end.
constexpr int vector_width(int from, int to) { return 16 / (from > to ? from : to); }

// Dense stretches go by vectors, if source and output are equally aligned and float64 is at most moved.
Parts parts_of(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);

}  // namespace gk::cuda
