// `inner_products_` of all pairs out of two lists of layers. Blocks bring stretches of layers into shared memory, where
// warps find the layers of their pairs; the block that comes last adds up what all have found.
//
// The order of the sums depends on shapes and on how the first layer is laid out, not on how many blocks there are.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "lanes.h"
#include "stretches.h"

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
  // A warp takes the pairs of kRows layers from the left and kColumns from the right, a tile: as many as it has lanes,
  // each of which ends with the sum of one pair.
  static constexpr int kRows = 8, kColumns = 4;
  static_assert(kRows * kColumns == kWarp && (kSide / kRows) * (kSide / kColumns) == kWarps);
  // Products of a pair that a lane adds up in `Compute` before they go on in double.
  static constexpr int kTerms = 32;
  // The least elements of a unit, and the most units of a layer: their sums go through memory.
  static constexpr int64_t kUnit = 8192, kMostUnits = 1024;
  static constexpr int kBlocks = sizeof(Compute) == 4 ? 2 : 1;

  using LayerRoom = Room<typename Layers::Layer, Compute>;
  struct Shared {
    LayerRoom room;
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
      sum_unit(lanes, shared, group, place.quotient);
      lanes.sync_block();
      if (lanes.thread() == 0) shared.last = lanes.arrive(arrivals + place.rest, 1) + 1 == units;
      lanes.sync_block();
      if (shared.last) finish(lanes, group);
    }
  }

 private:
  template <class Lanes>
  GK_KERNEL void sum_unit(Lanes& lanes, Shared& shared, const Group& group, int64_t index) const {
    const int64_t begin = index * unit;
    const int size = int(begin + unit < count ? unit : count - begin), stretch = group.steps * kStep<Compute>;
    const int across = (group.columns + kColumns - 1) / kColumns, tiles = (group.rows + kRows - 1) / kRows * across;
    // Warps that share a tile take turns at its steps.
    const int tile = lanes.warp() % tiles, turn = lanes.warp() / tiles, turns = kWarps / tiles;
    const int row = tile / across * kRows, column = tile % across * kColumns;
    Compute pairs[kRows][kColumns] = {};
    double sum = 0;
    int terms = 0;
    typename Layers::Ahead ahead;
    const Table& table = layers.table;
    shared.room.bring(lanes, group, table.at(layers.left), table.at(layers.right));
    lanes.sync_block();
    // A stretch is on its way while the one before it is worked on.
    for (int first = -stretch; first < size; first += stretch) {
      const int next = first + stretch;
      if (next < size) layers.read(ahead, shared.room, lanes, group, begin + next, size - next);
      for (int step = turn; first >= 0 && step < group.steps && first + step * kStep<Compute> < size; step += turns) {
        if (turn < turns) add(pairs, shared.room, lanes, group, row, column, step);
        terms += kLaneWidth<Compute>;
        if (terms < kTerms) continue;
        sum = sum + over_lanes(lanes, pairs);
        terms = 0;
      }
      lanes.sync_block();  // what was in the room has been read
      if (next < size) layers.put(shared.room, ahead, lanes, group, begin + next, size - next);
      lanes.sync_block();
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

  // Adds the products of a step to a tile's pairs. Rows that are not there are the last one again: nobody asks for
  // their sums.
  template <class Lanes>
  GK_KERNEL void add(Compute (&pairs)[kRows][kColumns], LayerRoom& room, Lanes& lanes, const Group& group, int row,
                     int column, int step) const {
    GK_UNROLL
    for (int i = 0; i < kLaneWidth<Compute>; ++i) {
      const int at = i * kWarp + lanes.lane();
      Compute x[kRows];
      GK_UNROLL
      for (int r = 0; r < kRows; ++r) {
        x[r] = room.at(group, row + r < group.rows ? row + r : group.rows - 1, step)[at];
      }
      GK_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        if (column + c >= group.columns) continue;
        const Compute y = room.at(group, group.rows + column + c, step)[at];
        GK_UNROLL
        for (int r = 0; r < kRows; ++r) pairs[r][c] = multiply_add(x[r], y, pairs[r][c]);
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
  constexpr int64_t kSize = kStep<typename Layers::Compute>;
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
