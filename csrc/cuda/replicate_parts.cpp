#include "replicate_parts.h"

#include <tuple>

namespace gk::cuda {
namespace {

struct Copied {
  View out;
  uint64_t first_element;
  double scale;
  bool moves;
};

// Copies that are made together: of one block, to one dtype, by vectors from element `head` on, or all by elements.
struct Together {
  View block;
  std::vector<Copied> copies;
};
constexpr int64_t kNoVectors = -1;

bool dense(const View& view) { return view.sizes.size() == 1 && view.strides[0] == 1; }

// Pairs of floats in the place of doubles that are only moved.
View halves(View view) {
  view.dtype = DType::kFloat32;
  view.sizes[0] *= 2;
  return view;
}

View stretch(const View& view, int64_t begin, int64_t count) { return {view.at(begin), view.dtype, {count}, {1}}; }

// Elements before the first at which accesses of whole vectors are aligned at both ends.
int64_t head_of(const View& block, const View& out) {
  if (!dense(block) || !dense(out) || computes_in_double(block.dtype, out.dtype)) return kNoVectors;
  const int64_t width = vector_width(block.item(), out.item());
  const auto missing = [width](const View& view) {
    return (width - int64_t(reinterpret_cast<uintptr_t>(view.data) / view.item()) % width) % width;
  };
  const int64_t head = missing(block);
  return head == missing(out) && head + width <= block.sizes[0] ? head : kNoVectors;
}

void add_elements(Parts& parts, const Together& together, int64_t begin, int64_t end) {
  if (begin == end) return;
  const View& block = together.block;
  const bool whole = end - begin == block.numel();
  auto& [groups, copies] = parts.elements;
  groups.push_back({flat_view(whole ? block : stretch(block, begin, end - begin)), end - begin, 0,
                    int32_t(copies.size()), int32_t(together.copies.size())});
  for (const Copied& copy : together.copies) {
    const FlatView out = flat_view(whole ? copy.out : stretch(copy.out, begin, end - begin));
    copies.push_back({out, copy.first_element + begin, copy.scale, copy.moves});
  }
}

void add_vectors(Parts& parts, const Together& together, int64_t head) {
  const View &block = together.block, &out = together.copies[0].out;
  const int64_t width = vector_width(block.item(), out.item()), count = (block.sizes[0] - head) / width;
  auto& [groups, copies] = parts.vectors[{block.dtype, out.dtype}];
  groups.push_back({block.at(head), count, 0, int32_t(copies.size()), int32_t(together.copies.size())});
  for (const Copied& copy : together.copies) {
    copies.push_back({copy.out.at(head), copy.first_element + head, float(copy.scale), copy.moves});
  }
  add_elements(parts, together, 0, head);
  add_elements(parts, together, head + count * width, block.sizes[0]);
}

}  // namespace

Parts parts_of(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers) {
  // By block, its dtype as it is read, the output's if vectors write it, and the head.
  std::map<std::tuple<int64_t, DType, DType, int64_t>, Together> all;
  uint64_t elements = 0;
  for (size_t i = 0; i < outs.size(); ++i) {
    const int64_t index = numbers.index[i];
    View block = collapsed(blocks[index]);
    Copied copy{collapsed(outs[i]), elements, numbers.scale[i], false};
    elements += uint64_t(block.numel());
    if (!block.numel()) continue;
    copy.moves = numbers.alpha == 0 && copy.scale == 1 && block.dtype == copy.out.dtype;
    if (copy.moves && block.dtype == DType::kFloat64 && dense(block) && dense(copy.out)) {
      block = halves(block);
      copy.out = halves(copy.out);
    }
    const int64_t head = head_of(block, copy.out);
    Together& together = all[{index, block.dtype, head == kNoVectors ? block.dtype : copy.out.dtype, head}];
    together.block = std::move(block);
    together.copies.push_back(std::move(copy));
  }
  Parts parts;
  for (const auto& [key, together] : all) {
    const int64_t head = std::get<3>(key);
    if (head == kNoVectors) {
      add_elements(parts, together, 0, together.block.numel());
    } else {
      add_vectors(parts, together, head);
    }
  }
  return parts;
}

}  // namespace gk::cuda
