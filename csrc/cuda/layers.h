// Layers of one shape, read and written together: rows that vectors of 16 bytes go along, and elements.
#pragma once

#include <vector>

#include "../common/jobs.h"
#include "flat_view.h"

namespace gk::cuda {

// A layer of dense rows, `pitch` elements apart.
struct Rows {
  char* data;
  int64_t pitch;
  int32_t item;  // bytes
  DType dtype;

  // Where a vector of `width` elements lies, given its row and its number there.
  GK_INLINE char* at(const Division& place, int width) const {
    return data + (place.quotient * pitch + place.rest * width) * item;
  }
};

// `count` vectors of every layer, `row` of them in a row.
struct RowVectors {
  int64_t row = 0, count = 0;
  std::vector<Rows> layers;
};
struct Elements {
  int64_t count;
  std::vector<FlatView> layers;
};
struct LayerParts {
  RowVectors vectors;
  std::vector<Elements> elements;
};

// Elements of the vectors that go along such layers, if their rows allow it; none for float64.
int vector_width(const std::vector<View>& layers);

// Views as `walked` returns them, not empty. Rows that are dense in every layer go by vectors of `width` elements if
// they are equally aligned, and what is left over at their ends by elements; otherwise, or without a width, everything
// does.
LayerParts layer_parts(const std::vector<View>& layers, int width);

}  // namespace gk::cuda
