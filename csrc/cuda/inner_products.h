// `inner_products_` of all pairs out of two lists of layers. A warp keeps the sums of a tile of pairs in registers
// while their layers go by; the warps of a block share layers, which they find in cache. The block that comes last adds
// up what all have found.
//
// By way of shared memory each layer would be read once, but that takes more instructions: a step of 12 x 6 layers has
// about 2000 in the time of its bytes on an H200; it took about 2600 that way, and takes 2100 (counted, not measured).
//
// The order of the sums depends on shapes and on how the first layer is laid out, not on how many blocks there are.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "lanes.h"
#include "pair_layers.h"

namespace gk::cuda {

// The inner products, [left, right], that are added to.
struct PairSums {
  char* data;
  int64_t strides[2];
  DType dtype;
};

GK_KERNEL float multiply_add(float x, float y, float sum) { return fmaf(x, y, sum); }
GK_KERNEL double multiply_add(double x, double y, double sum) { return fma(x, y, sum); }

template <class Layers>
struct InnerProducts {
  using Compute = typename Layers::Compute;
  static constexpr int kWidth = Layers::kWidth, kStep = kWidth * kWarp;
  // A warp takes the pairs of kRows layers from the left and kColumns from the right, a tile: as many as it has lanes,
  // each of which ends with the sum of one pair. A block takes up to kSide layers from either side.
  static constexpr int kRows = 8, kColumns = 4, kSide = 16;
  static_assert(kRows * kColumns == kWarp && (kSide / kRows) * (kSide / kColumns) == kWarps);
  // Products of a pair that a lane adds up in `Compute` before they go on in double.
  static constexpr int kTerms = 32;
  // The least elements of a unit, and the most units of a layer: their sums go through memory.
  static constexpr int64_t kUnit = 8192, kMostUnits = 1024;
  static constexpr int kBlocks = Layers::kBlocks;

  struct Shared {
    typename Layers::Layer left[kSide], right[kSide];
    double sums[kWarps][kWarp];
    bool last;
  };

  Layers layers;
  int64_t count, unit, units;  // elements of a layer and of a unit, units of a layer
  double* sums;                // [left, right, units]
  uint32_t* arrivals;          // units that are done, for each group of pairs
  PairSums out;

  GK_INLINE int groups() const {
    return (layers.left.count + kSide - 1) / kSide * ((layers.right.count + kSide - 1) / kSide);
  }

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const {
    for (int64_t task = lanes.block(); task < units * groups(); task += lanes.blocks()) {
      // Groups of one unit follow one another, and find each other's layers in cache.
      const Division place = divide(task, groups());
      const Group group(layers.left.count, layers.right.count, int(place.rest));
      bring(lanes, shared, group);
      sum_unit(lanes, shared, group, place.quotient);
      lanes.sync_block();
      if (lanes.thread() == 0) shared.last = lanes.arrive(arrivals + place.rest, 1) + 1 == units;
      lanes.sync_block();
      if (shared.last) finish(lanes, group);
    }
  }

 private:
  // The layers that a block takes.
  struct Group {
    int row, rows, column, columns;

    GK_KERNEL Group(int left, int right, int index) {
      const int across = (right + kSide - 1) / kSide;
      row = index / across * kSide;
      column = index % across * kSide;
      rows = left - row < kSide ? left - row : kSide;
      columns = right - column < kSide ? right - column : kSide;
    }
  };

  template <class Lanes>
  GK_KERNEL void bring(Lanes& lanes, Shared& shared, const Group& group) const {
    const int i = lanes.thread();
    if (i < group.rows) shared.left[i] = layers.table.at(layers.left)[group.row + i];
    if (i < group.columns) shared.right[i] = layers.table.at(layers.right)[group.column + i];
    lanes.sync_block();
  }

  template <class Lanes>
  GK_KERNEL void sum_unit(Lanes& lanes, Shared& shared, const Group& group, int64_t index) const {
    const int64_t begin = index * unit;
    const int size = int(begin + unit < count ? unit : count - begin);
    // Warps that share a tile take turns at its steps.
    const int across = (group.columns + kColumns - 1) / kColumns, tiles = (group.rows + kRows - 1) / kRows * across;
    const int tile = lanes.warp() % tiles, turn = lanes.warp() / tiles, turns = kWarps / tiles;
    const int row = tile / across * kRows, column = tile % across * kColumns;
    Compute pairs[kRows][kColumns] = {};
    double sum = 0;
    int terms = 0;
    for (int first = turn * kStep; turn < turns && first < size; first += turns * kStep) {
      const int e = first + lanes.lane() * kWidth;
      add(pairs, shared.left + row, group.rows - row, shared.right + column, group.columns - column, begin + e,
          size - e);
      terms += kWidth;
      if (terms < kTerms) continue;
      sum = sum + over_lanes(lanes, pairs);
      terms = 0;
    }
    shared.sums[lanes.warp()][lanes.lane()] = sum + over_lanes(lanes, pairs);
    lanes.sync_block();
    const int left = row + lanes.lane() / kColumns, right = column + lanes.lane() % kColumns;
    if (turn > 0 || left >= group.rows || right >= group.columns) return;
    double total = 0;
    for (int i = 0; i < turns; ++i) total = total + shared.sums[i * tiles + tile][lanes.lane()];
    *sums_of(group.row + left, group.column + right, index) = total;
  }

  GK_KERNEL double* sums_of(int64_t left, int64_t right, int64_t index) const {
    return sums + (left * layers.right.count + right) * units + index;
  }

  // Adds a lane's products from element `e` on, of which `n` are left, to a tile's pairs.
  using Layer = typename Layers::Layer;
  GK_KERNEL void add(Compute (&pairs)[kRows][kColumns], const Layer* left, int rows, const Layer* right, int columns,
                     int64_t e, int n) const {
    if (n <= 0) return;
    const typename Layers::Place place = layers.place(e);
    // All are on their way before one is waited for.
    typename Layers::Raw ahead[kRows + kColumns] = {};
    GK_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r < rows) ahead[r] = Layers::read(left[r], place, n);
    }
    GK_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      if (c < columns) ahead[kRows + c] = Layers::read(right[c], place, n);
    }
    Compute x[kRows][kWidth];
    GK_UNROLL
    for (int r = 0; r < kRows; ++r) Layers::widen(x[r], ahead[r], left[r < rows ? r : 0]);
    GK_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      if (c >= columns) continue;
      Compute y[kWidth];
      Layers::widen(y, ahead[kRows + c], right[c]);
      GK_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        GK_UNROLL
        for (int r = 0; r < kRows; ++r) pairs[r][c] = multiply_add(x[r][i], y[i], pairs[r][c]);
      }
    }
  }

  // The sums of all pairs over the lanes, lane l with that of pair l; `pairs` begin anew.
  template <class Lanes>
  static GK_KERNEL double over_lanes(Lanes& lanes, Compute (&pairs)[kRows][kColumns]) {
    Compute numbers[kWarp];
    GK_UNROLL
    for (int i = 0; i < kWarp; ++i) {
      numbers[i] = pairs[i / kColumns][i % kColumns];
      pairs[i / kColumns][i % kColumns] = 0;
    }
    return halved(lanes, numbers);
  }

  // Lanes that differ in one bit share their numbers out between them: who has it set keeps the upper half.
  template <class Lanes, class Number, int kCount>
  static GK_KERNEL double halved(Lanes& lanes, const Number (&numbers)[kCount]) {
    if constexpr (kCount == 1) {
      return numbers[0];
    } else {
      constexpr int kLeft = kCount / 2;
      const bool upper = lanes.lane() & kLeft;
      double sums[kLeft];
      GK_UNROLL
      for (int i = 0; i < kLeft; ++i) {
        const Number keep = upper ? numbers[i + kLeft] : numbers[i], give = upper ? numbers[i] : numbers[i + kLeft];
        sums[i] = double(keep) + double(lanes.shuffle_xor(give, kLeft));
      }
      return halved(lanes, sums);
    }
  }

  // Adds the sums of all units to what is there.
  template <class Lanes>
  GK_KERNEL void finish(Lanes& lanes, const Group& group) const {
    for (int pair = lanes.warp(); pair < group.rows * group.columns; pair += kWarps) {
      const int64_t row = group.row + pair / group.columns, column = group.column + pair % group.columns;
      double sum = 0;
      for (int64_t i = lanes.lane(); i < units; i += kWarp) sum = sum + *sums_of(row, column, i);
      GK_UNROLL
      for (int distance = kWarp / 2; distance; distance /= 2) sum = sum + lanes.shuffle_down(sum, distance);
      char* to = out.data + (row * out.strides[0] + column * out.strides[1]) * element_size(out.dtype);
      if (lanes.lane() == 0) store_as(out.dtype, to, load_as<double>(out.dtype, to) + sum);
    }
  }
};

// `left` of the layers are left ones.
template <class Machine, class Layers, class Part>
void launch_inner_products(Layers layers, const Part& part, int64_t count, int left, const PairSums& out) {
  using Kernel = InnerProducts<Layers>;
  const auto first = part.layers.begin(), last = part.layers.end();
  Kernel kernel{layers, count, 0, 0, nullptr, nullptr, out};
  TableBytes table;
  kernel.layers.left = table.add(std::vector(first, first + left));
  kernel.layers.right = table.add(std::vector(first + left, last));
  const auto descriptors = table.place<Machine>(kernel.layers.table);
  constexpr int64_t kSize = Kernel::kStep;
  const int64_t share = (count + Kernel::kMostUnits * kSize - 1) / (Kernel::kMostUnits * kSize) * kSize;
  kernel.unit = std::max(share, Kernel::kUnit);
  kernel.units = (count + kernel.unit - 1) / kernel.unit;
  const std::vector<uint64_t> none((kernel.groups() + 1) / 2);
  const int64_t sums = left * int64_t(last - first - left) * kernel.units;
  typename Machine::Buffer memory((none.size() + sums) * sizeof(double));
  kernel.arrivals = static_cast<uint32_t*>(memory.data());
  kernel.sums = static_cast<double*>(memory.data()) + none.size();
  Machine::upload(memory.data(), none.data(), none.size() * sizeof(uint64_t));
  Machine::launch(kernel, kernel.units * kernel.groups(), Layers::kName);
}

template <class Machine>
void inner_products_on(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  if (!left[0].numel()) return;
  PairSums sums{out.data, {out.strides[0], out.strides[1]}, out.dtype};
  std::vector<View> layers = left;
  layers.insert(layers.end(), right.begin(), right.end());
  layers = walked(layers, left[0]);
  int count = int(left.size());
  // A tile has more layers from the left.
  if (left.size() < right.size()) {
    std::rotate(layers.begin(), layers.begin() + count, layers.end());
    std::swap(sums.strides[0], sums.strides[1]);
    count = int(right.size());
  }
  if (computes_in_double(left, right)) {
    const LayerParts parts = layer_parts(layers, 0);
    launch_inner_products<Machine>(ElementLayers<double>{}, parts.elements[0], parts.elements[0].count, count, sums);
    return;
  }
  LayerParts parts = layer_parts(layers, VectorLayers::kWidth);
  if (parts.elements.empty()) {
    VectorLayers vectors{};
    vectors.row = parts.vectors.row;
    launch_inner_products<Machine>(vectors, parts.vectors, parts.vectors.count * VectorLayers::kWidth, count, sums);
    return;
  }
  if (parts.vectors.count) parts = layer_parts(layers, 0);
  launch_inner_products<Machine>(ElementLayers<float>{}, parts.elements[0], parts.elements[0].count, count, sums);
}

}  // namespace gk::cuda
