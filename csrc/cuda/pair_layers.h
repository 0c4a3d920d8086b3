// How a lane takes its elements of a layer, for `inner_products_`: in a vector, or one by one.
#pragma once

#include "items.h"
#include "layers.h"
#include "table.h"

namespace gk::cuda {

// Elements of a layer that a lane takes together; all lanes of a warp take a step of them.
template <class Compute>
constexpr int kLaneWidth = 16 / int(sizeof(Compute));

// Layers in rows of whole vectors, computed with in fp32.
struct VectorLayers {
  using Layer = Rows;
  using Compute = float;
  using Place = Division;
  using Raw = Words<16>;
  static constexpr int kWidth = kLaneWidth<float>, kBlocks = 2;
  static constexpr const char* kName = "inner_products of vectors";

  Table table;
  Entries<Rows> left, right;
  int64_t row;  // vectors in a row

  GK_KERNEL Place place(int64_t e) const { return divide(e / kWidth, row); }
  static GK_KERNEL Raw read(const Rows& layer, const Place& place, int) {
    const char* from = layer.at(place, kWidth);
    if (layer.dtype == DType::kFloat32) return load_words<16>(from);
    const Words<8> words = load_words<8>(from);
    return {{words.w[0], words.w[1]}};
  }
  static GK_KERNEL void widen(float (&x)[kWidth], const Raw& raw, const Rows& layer) {
    if (layer.dtype == DType::kFloat32) {
      values_of<4>(x, raw, layer.dtype);
    } else {
      values_of<2>(x, Words<8>{{raw.w[0], raw.w[1]}}, layer.dtype);
    }
  }
};

// Layers of any dtypes and strides.
template <class ComputeIn>
struct ElementLayers {
  using Layer = FlatView;
  using Compute = ComputeIn;
  using Place = int64_t;
  static constexpr int kWidth = kLaneWidth<Compute>, kBlocks = 1;
  static constexpr const char* kName = "inner_products of elements";
  struct Raw {
    Compute values[kWidth];
  };

  Table table;
  Entries<FlatView> left, right;

  GK_KERNEL Place place(int64_t e) const { return e; }
  // `n`: elements that are left from there on.
  static GK_KERNEL Raw read(const FlatView& layer, Place place, int n) {
    Raw raw = {};
    GK_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (i >= n) continue;
      raw.values[i] = value_of<Compute>(layer.dtype, load_item(element_size(layer.dtype), layer.at(place + i)));
    }
    return raw;
  }
  static GK_KERNEL void widen(Compute (&x)[kWidth], const Raw& raw, const FlatView&) {
    GK_UNROLL
    for (int i = 0; i < kWidth; ++i) x[i] = raw.values[i];
  }
};

}  // namespace gk::cuda
