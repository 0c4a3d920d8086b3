// `replicate`: copies of blocks, each scaled and with its own noise; a source chunk is read once for all its copies.
#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "runs.h"
#include "vector.h"

namespace gk {
namespace {

constexpr int64_t kChunk = 2048;
// About how many elements a unit of work writes.
constexpr int64_t kUnit = 1 << 17;

struct Copy {
  View out;
  double scale;
  uint64_t first_element;
};

// One block and where its copies go.
struct Group {
  View block;
  std::vector<Copy> copies;
  int64_t unit_length;
};

template <class Compute>
void compute(const View& block, const Copy& copy, int64_t e, int64_t n, const ReplicateNumbers& numbers, char* stored) {
  const auto& run = loops().compute<Compute>();
  alignas(64) Compute values[kChunk];
  load(values, block, e, n);
  run.multiply(values, Compute(copy.scale), n);
  if (numbers.alpha != 0) {
    alignas(64) float buffer[kChunk + kNormalsSlack];
    const float* z = loops().normals(buffer, numbers.key, kCopyField, copy.first_element + e, n);
    run.blend(values, z, Compute(1.0 - numbers.alpha), Compute(numbers.alpha), Compute(numbers.std), n);
  }
  run.store[int(copy.out.dtype)](stored, values, n);
}

void chunk(const Group& group, int64_t e, int64_t n, const ReplicateNumbers& numbers, bool streamed) {
  alignas(64) char buffer[kChunk * sizeof(double)];
  const View& block = group.block;
  const bool dense = block.sizes.size() == 1 && block.strides[0] == 1;
  for (const Copy& copy : group.copies) {
    const char* values = buffer;
    if (numbers.alpha == 0 && copy.scale == 1 && copy.out.dtype == block.dtype && dense) {
      values = block.at(e);
    } else if (computes_in_double(block.dtype, copy.out.dtype)) {
      compute<double>(block, copy, e, n, numbers, buffer);
    } else {
      compute<float>(block, copy, e, n, numbers, buffer);
    }
    write(copy.out, e, n, values, streamed);
  }
}

}  // namespace

void cpu::replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers) {
  std::vector<Group> groups(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) groups[i].block = collapsed(blocks[i]);
  int64_t elements = 0, bytes = 0;
  for (size_t i = 0; i < outs.size(); ++i) {
    groups[numbers.index[i]].copies.push_back({collapsed(outs[i]), numbers.scale[i], uint64_t(elements)});
    elements += outs[i].numel();
    bytes += outs[i].numel() * outs[i].item();
  }
  std::vector<int64_t> first_unit{0};
  for (Group& group : groups) {
    const int64_t copies = group.copies.size(), n = copies ? group.block.numel() : 0;
    group.unit_length = std::max(kChunk, copies ? kUnit / copies / kChunk * kChunk : 0);
    first_unit.push_back(first_unit.back() + (n + group.unit_length - 1) / group.unit_length);
  }
  const bool streamed = numbers.alpha == 0 && bytes >= cpu::kStreamBytes;
  for_each_unit(first_unit.back(), elements, [&](int64_t unit) {
    const size_t i = std::upper_bound(first_unit.begin(), first_unit.end(), unit) - first_unit.begin() - 1;
    const Group& group = groups[i];
    const int64_t first = (unit - first_unit[i]) * group.unit_length;
    const int64_t last = std::min(first + group.unit_length, group.block.numel());
    for (int64_t e = first; e < last; e += kChunk) chunk(group, e, std::min(kChunk, last - e), numbers, streamed);
    if (streamed) loops().fence();
  });
}

}  // namespace gk
