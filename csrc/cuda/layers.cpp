#include "layers.h"

#include <algorithm>

namespace gk::cuda {
namespace {

// The longest rows that are dense in all views, 0 if there are none.
int64_t dense_length(const std::vector<View>& layers) {
  const int64_t all = layers[0].numel();
  int64_t length = all;
  for (const View& layer : layers) {
    const int64_t own = layer.sizes.back();
    if (layer.sizes.size() > 2 || layer.strides.back() != 1 || (own != all && length != all && own != length)) return 0;
    length = std::min(length, own);
  }
  return length;
}

// The same elements as rows of a length that is dense.
View in_rows(const View& layer, int64_t length) {
  const int64_t pitch = layer.sizes.size() == 1 ? length : layer.strides[0];
  return {layer.data, layer.dtype, {layer.numel() / length, length}, {pitch, 1}};
}

// Elements before the first at which accesses of whole vectors are aligned in every row of every layer; -1 if that
// differs, or if no vector follows.
int64_t head_of(const std::vector<View>& rows, int64_t width) {
  const auto missing = [width](const View& layer) {
    return (width - int64_t(reinterpret_cast<uintptr_t>(layer.data) / layer.item()) % width) % width;
  };
  const int64_t head = missing(rows[0]);
  for (const View& layer : rows) {
    if (missing(layer) != head || (layer.sizes[0] > 1 && layer.strides[0] % width)) return -1;
  }
  return head + width <= rows[0].sizes[1] ? head : -1;
}

void add_elements(LayerParts& parts, const std::vector<View>& layers) {
  Elements part{layers[0].numel(), {}};
  for (const View& layer : layers) part.layers.push_back(flat_view(layer));
  if (part.count) parts.elements.push_back(std::move(part));
}

// Elements [begin, end) of every row.
std::vector<View> columns(std::vector<View> rows, int64_t begin, int64_t end) {
  for (View& layer : rows) {
    layer.data = layer.at(begin);
    layer.sizes[1] = end - begin;
  }
  return rows;
}

}  // namespace

int vector_width(const std::vector<View>& layers) {
  int item = 0;
  for (const View& layer : layers) item = std::max(item, layer.item());
  return item == 8 ? 0 : 16 / item;
}

LayerParts layer_parts(const std::vector<View>& layers, int width) {
  LayerParts parts;
  const int64_t length = width ? dense_length(layers) : 0;
  std::vector<View> rows;
  if (length) {
    for (const View& layer : layers) rows.push_back(in_rows(layer, length));
  }
  const int64_t head = length ? head_of(rows, width) : -1;
  if (head < 0) {
    add_elements(parts, layers);
    return parts;
  }
  parts.vectors.row = (length - head) / width;
  parts.vectors.count = rows[0].sizes[0] * parts.vectors.row;
  for (const View& layer : rows) {
    parts.vectors.layers.push_back({layer.at(head), layer.strides[0], layer.item(), layer.dtype});
  }
  add_elements(parts, columns(rows, 0, head));
  add_elements(parts, columns(rows, head + parts.vectors.row * width, length));
  return parts;
}

}  // namespace gk::cuda
