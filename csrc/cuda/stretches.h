// Stretches of two lists of layers on their way into shared memory, for `inner_products_`.
#pragma once

#include "items.h"
#include "lanes.h"
#include "layers.h"
#include "table.h"

namespace gk::cuda {

// Layers from either side that a block takes together.
constexpr int kSide = 16;
// Elements of a layer that a lane takes together; all lanes of a warp take a step of them.
template <class Compute>
constexpr int kLaneWidth = 16 / int(sizeof(Compute));
template <class Compute>
constexpr int kStep = kLaneWidth<Compute> * kWarp;

// A block's layers, and how many steps of each make a stretch: a power of two, of which every warp takes one.
struct Group {
  // Layers from which a warp takes its step.
  static constexpr int kHeld = 6;
  int row, rows, column, columns, steps;

  GK_KERNEL Group(int left, int right, int index) {
    const int across = (right + kSide - 1) / kSide;
    row = index / across * kSide;
    column = index % across * kSide;
    rows = left - row < kSide ? left - row : kSide;
    columns = right - column < kSide ? right - column : kSide;
    for (steps = kWarps; layers() * steps > kHeld * kWarps; steps /= 2) continue;
  }
  GK_KERNEL int layers() const { return rows + columns; }
};
static_assert(2 * kSide <= Group::kHeld * kWarps, "all warps together hold a step of every layer");

// A block's shared memory: its layers, and a stretch of them.
//
// For each layer there are its steps; of a step the first elements of all lanes, then the second ones, and so on.
// Behind the end of the layers there are zeros.
template <class Layer, class Compute>
struct Room {
  Layer layers[2 * kSide];
  Compute values[Group::kHeld * kWarps * kStep<Compute>];

  GK_INLINE Compute* at(const Group& group, int layer, int step) {
    return values + (layer * group.steps + step) * kStep<Compute>;
  }
  template <class Lanes>
  GK_KERNEL void bring(Lanes& lanes, const Group& group, const Layer* left, const Layer* right) {
    const int layer = lanes.thread();
    if (layer >= group.layers()) return;
    layers[layer] = layer < group.rows ? left[group.row + layer] : right[group.column + layer - group.rows];
  }
};

// Layers in rows of whole vectors, computed with in fp32. A stretch is read ahead.
struct VectorLayers {
  using Layer = Rows;
  using Compute = float;
  static constexpr const char* kName = "inner_products of vectors";
  static constexpr int kWidth = kLaneWidth<float>;
  struct Ahead {
    Words<16> words[Group::kHeld];
  };

  Table table;
  Entries<Rows> left, right;
  int64_t row;  // vectors in a row

  // Up to `size` elements of every layer, from `first` on.
  template <class Lanes>
  GK_KERNEL void read(Ahead& ahead, const Room<Rows, float>& room, Lanes& lanes, const Group& group, int64_t first,
                      int size) const {
    const int step = lanes.warp() % group.steps, e = step * kStep<float> + lanes.lane() * kWidth;
    const Division place = divide((first + e) / kWidth, row);
    GK_UNROLL
    for (int i = 0; i < Group::kHeld; ++i) {
      const int layer = layer_of(lanes, group, i);
      ahead.words[i] = {};
      if (layer >= group.layers() || e >= size) continue;
      const Rows& rows = room.layers[layer];
      if (rows.item == 4) {
        ahead.words[i] = load_words<16>(rows.at(place, kWidth));
      } else {
        const Words<8> words = load_words<8>(rows.at(place, kWidth));
        ahead.words[i].w[0] = words.w[0], ahead.words[i].w[1] = words.w[1];
      }
    }
  }

  template <class Lanes>
  GK_KERNEL void put(Room<Rows, float>& room, const Ahead& ahead, Lanes& lanes, const Group& group, int64_t,
                     int) const {
    const int step = lanes.warp() % group.steps;
    GK_UNROLL
    for (int i = 0; i < Group::kHeld; ++i) {
      const int layer = layer_of(lanes, group, i);
      if (layer >= group.layers()) continue;
      const Words<16>& words = ahead.words[i];
      const DType dtype = room.layers[layer].dtype;
      float x[kWidth];
      if (dtype == DType::kFloat32) {
        values_of<4>(x, words, dtype);
      } else {
        values_of<2>(x, Words<8>{{words.w[0], words.w[1]}}, dtype);
      }
      float* to = room.at(group, layer, step) + lanes.lane();
      GK_UNROLL
      for (int j = 0; j < kWidth; ++j) to[j * kWarp] = x[j];
    }
  }

 private:
  template <class Lanes>
  static GK_KERNEL int layer_of(Lanes& lanes, const Group& group, int i) {
    return lanes.warp() / group.steps + i * (kWarps / group.steps);
  }
};

// Layers of any dtypes and strides.
template <class ComputeIn>
struct ElementLayers {
  using Layer = FlatView;
  using Compute = ComputeIn;
  using Ahead = Empty;
  static constexpr const char* kName = "inner_products of elements";

  Table table;
  Entries<FlatView> left, right;

  template <class Lanes>
  GK_KERNEL void read(Ahead&, const Room<FlatView, Compute>&, Lanes&, const Group&, int64_t, int) const {}

  template <class Lanes>
  GK_KERNEL void put(Room<FlatView, Compute>& room, const Ahead&, Lanes& lanes, const Group& group, int64_t first,
                     int size) const {
    constexpr int kBatch = 4;
    const int stretch = group.steps * kStep<Compute>;
    GK_ROLLED
    for (int layer = lanes.warp(); layer < group.layers(); layer += kWarps) {
      const FlatView& view = room.layers[layer];
      GK_ROLLED
      for (int begin = lanes.lane(); begin < stretch; begin += kBatch * kWarp) {
        uint64_t items[kBatch] = {};
        GK_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          const int e = begin + i * kWarp;
          if (e < size && e < stretch) items[i] = load_item(element_size(view.dtype), view.at(first + e));
        }
        GK_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          const int e = begin + i * kWarp, lane = e % kStep<Compute> / kLaneWidth<Compute>;
          if (e >= stretch) continue;
          Compute* to = room.at(group, layer, e / kStep<Compute>) + e % kLaneWidth<Compute> * kWarp;
          to[lane] = value_of<Compute>(view.dtype, items[i]);
        }
      }
    }
  }
};

}  // namespace gk::cuda
