// `mix_`: sums of scaled layers. A source element is read once for as many sums as registers hold; for more it comes
// from cache.
#pragma once

#include "items.h"
#include "lanes.h"
#include "layers.h"
#include "table.h"

namespace gk::cuda {

// The coefficients [outs, sources], read in place.
struct Coefficients {
  const char* data;
  int64_t strides[2];
  DType dtype;
};

// Those of some outs and sources in shared memory; those of one source side by side.
template <class Compute, int kOuts>
struct Factors {
  static constexpr int kSources = 64;
  alignas(16) Compute of[kSources][kOuts];

  // Whether all of a call's are in it at once.
  static GK_INLINE bool holds(int outs, int sources) { return outs <= kOuts && sources <= kSources; }

  template <class Lanes>
  GK_KERNEL void stage(Lanes& lanes, const Coefficients& from, int out, int outs, int source, int sources) {
    lanes.sync_block();  // what was here has been read
    for (int i = lanes.thread(); i < kSources * kOuts; i += kThreads) {
      const int l = i % kOuts, k = i / kOuts;
      if (out + l >= outs || source + k >= sources) continue;
      const int64_t offset = (out + l) * from.strides[0] + (source + k) * from.strides[1];
      of[k][l] = load_as<Compute>(from.dtype, from.data + offset * element_size(from.dtype));
    }
    lanes.sync_block();
  }
};

// What sums begin with: it leaves every number as it is, while a positive zero would lose the sign of a negative one.
constexpr float kNothing = -0.0f;

// Vectors of `kWidth` elements: 8 of 2 bytes, or 4 of 2 or 4 bytes. `kOuts` sums of each at once.
template <int kWidth, int kOuts>
struct MixVectors {
  // Sources that a thread has under way; sums that are left out together where outs are fewer.
  static constexpr int kAhead = kOuts > 4 ? 4 : kWidth == 8 ? 6 : 8, kGroup = 4;
  static constexpr int kBlocks = 2;
  using Shared = Factors<float, kOuts>;

  // Where a thread's vector of a layer lies.
  struct Place {
    char* at;
    DType dtype;

    Place() = default;
    GK_KERNEL Place(const Rows& rows, const Division& place) : at(rows.at(place, kWidth)), dtype(rows.dtype) {}
  };

  Table table;
  Entries<Rows> outs, sources;
  Coefficients coefficients;
  int64_t row, count;  // vectors in a row and in a layer

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& factors) const {
    const bool at_once = Shared::holds(outs.count, sources.count);
    if (at_once) factors.stage(lanes, coefficients, 0, outs.count, 0, sources.count);
    for (int64_t task = lanes.block(); task * kThreads < count; task += lanes.blocks()) {
      const int64_t v = task * kThreads + lanes.thread();
      const Division place = divide(v, row);
      for (int out = 0; out < outs.count; out += kOuts) {
        float sums[kOuts][kWidth];
        GK_UNROLL
        for (int l = 0; l < kOuts; ++l) {
          GK_UNROLL
          for (int i = 0; i < kWidth; ++i) sums[l][i] = kNothing;
        }
        for (int source = 0; source < sources.count; source += Shared::kSources) {
          if (!at_once) factors.stage(lanes, coefficients, out, outs.count, source, sources.count);
          if (v < count) add(sums, factors, out, source, place);
        }
        if (v < count) write(sums, out, place);
      }
    }
  }

 private:
  GK_KERNEL void add(float (&sums)[kOuts][kWidth], const Shared& factors, int out, int source,
                     const Division& place) const {
    const Rows* rows = table.at(sources) + source;
    const int left = sources.count - source, n = left < Shared::kSources ? left : Shared::kSources;
    GK_ROLLED
    for (int first = 0; first < n; first += kAhead) {
      // Places first: where a row lies is itself read from memory.
      Place from[kAhead];
      GK_UNROLL
      for (int k = 0; k < kAhead; ++k) from[k] = Place(rows[first + k < n ? first + k : n - 1], place);
      Words<16> terms[kAhead];
      GK_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (first + k < n) terms[k] = load(from[k]);
      }
      GK_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (first + k >= n) continue;
        float x[kWidth];
        widen(x, terms[k], from[k].dtype);
        GK_UNROLL
        for (int group = 0; group < kOuts; group += kGroup) {
          if (out + group >= outs.count) continue;
          GK_UNROLL
          for (int l = group; l < group + kGroup; ++l) {
            const float factor = factors.of[first + k][l];
            GK_UNROLL
            for (int i = 0; i < kWidth; ++i) sums[l][i] = sums[l][i] + factor * x[i];
          }
        }
      }
    }
  }

  static GK_KERNEL Words<16> load(const Place& from) {
    if (kWidth == 8 || from.dtype == DType::kFloat32) return load_words<16>(from.at);
    const Words<8> words = load_words<8>(from.at);
    return {{words.w[0], words.w[1]}};
  }

  static GK_KERNEL void widen(float (&x)[kWidth], const Words<16>& words, DType dtype) {
    if constexpr (kWidth == 8) {
      values_of<2>(x, words, dtype);
    } else if (dtype == DType::kFloat32) {
      values_of<4>(x, words, dtype);
    } else {
      values_of<2>(x, Words<8>{{words.w[0], words.w[1]}}, dtype);
    }
  }

  GK_KERNEL void write(const float (&sums)[kOuts][kWidth], int out, const Division& place) const {
    const Rows* rows = table.at(outs);
    GK_UNROLL
    for (int group = 0; group < kOuts; group += kGroup) {
      if (out + group >= outs.count) continue;
      Place to[kGroup];
      GK_UNROLL
      for (int l = 0; l < kGroup; ++l) {
        const int at = out + group + l;
        to[l] = Place(rows[at < outs.count ? at : outs.count - 1], place);
      }
      GK_UNROLL
      for (int l = 0; l < kGroup; ++l) {
        if (out + group + l < outs.count) store(to[l], sums[group + l]);
      }
    }
  }

  static GK_KERNEL void store(const Place& to, const float (&sums)[kWidth]) {
    if constexpr (kWidth == 4) {
      if (to.dtype == DType::kFloat32) return store_words(to.at, items_of<4>(sums, to.dtype));
    }
    store_words(to.at, items_of<2>(sums, to.dtype));
  }
};

// Elements of layers of any dtypes and strides.
template <class Compute>
struct MixElements {
  static constexpr int kOuts = 8, kAhead = 4;
  using Shared = Factors<Compute, kOuts>;

  Table table;
  Entries<FlatView> outs, sources;
  Coefficients coefficients;
  int64_t count;

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& factors) const {
    const bool at_once = Shared::holds(outs.count, sources.count);
    if (at_once) factors.stage(lanes, coefficients, 0, outs.count, 0, sources.count);
    for (int64_t task = lanes.block(); task * kThreads < count; task += lanes.blocks()) {
      const int64_t e = task * kThreads + lanes.thread();
      for (int out = 0; out < outs.count; out += kOuts) {
        Compute sums[kOuts];
        GK_UNROLL
        for (int l = 0; l < kOuts; ++l) sums[l] = kNothing;
        for (int source = 0; source < sources.count; source += Shared::kSources) {
          if (!at_once) factors.stage(lanes, coefficients, out, outs.count, source, sources.count);
          if (e < count) add(sums, factors, source, e);
        }
        if (e < count) write(sums, out, e);
      }
    }
  }

 private:
  GK_KERNEL void add(Compute (&sums)[kOuts], const Shared& factors, int source, int64_t e) const {
    const FlatView* views = table.at(sources) + source;
    const int left = sources.count - source, n = left < Shared::kSources ? left : Shared::kSources;
    GK_ROLLED
    for (int first = 0; first < n; first += kAhead) {
      uint64_t items[kAhead];
      GK_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (first + k < n) items[k] = load_item(element_size(views[first + k].dtype), views[first + k].at(e));
      }
      GK_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (first + k >= n) continue;
        const Compute x = value_of<Compute>(views[first + k].dtype, items[k]);
        GK_UNROLL
        for (int l = 0; l < kOuts; ++l) sums[l] = sums[l] + factors.of[first + k][l] * x;
      }
    }
  }

  GK_KERNEL void write(const Compute (&sums)[kOuts], int out, int64_t e) const {
    const FlatView* views = table.at(outs) + out;
    GK_UNROLL
    for (int l = 0; l < kOuts; ++l) {
      if (out + l >= outs.count) continue;
      const DType dtype = views[l].dtype;
      store_item(element_size(dtype), views[l].at(e), item_of<Compute>(dtype, sums[l]));
    }
  }
};

template <class Machine, class Kernel, class Part>
void launch_mix(Kernel kernel, const Part& part, int outs, const Coefficients& coefficients, const char* name) {
  const auto first = part.layers.begin(), last = part.layers.end();
  TableBytes table;
  kernel.outs = table.add(std::vector(first, first + outs));
  kernel.sources = table.add(std::vector(first + outs, last));
  const auto memory = table.place<Machine>(kernel.table);
  kernel.coefficients = coefficients;
  kernel.count = part.count;
  Machine::launch(kernel, (part.count + kThreads - 1) / kThreads, name);
}

template <class Machine, int kWidth, int kOuts>
void mix_vectors(const RowVectors& part, int outs, const Coefficients& coefficients) {
  MixVectors<kWidth, kOuts> kernel{};
  kernel.row = part.row;
  launch_mix<Machine>(kernel, part, outs, coefficients, "mix of vectors");
}

template <class Machine>
void mix_on(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients) {
  if (!outs[0].numel()) return;
  std::vector<View> layers = outs;
  layers.insert(layers.end(), sources.begin(), sources.end());
  layers = walked(layers, outs[0]);
  const bool wide = computes_in_double(outs, sources) || coefficients.dtype == DType::kFloat64;
  const int width = wide ? 0 : vector_width(layers), count = int(outs.size());
  const bool few = count <= 4;
  const LayerParts parts = layer_parts(layers, width);
  const Coefficients factors{coefficients.data, {coefficients.strides[0], coefficients.strides[1]}, coefficients.dtype};
  if (parts.vectors.count) {
    const auto mix = width == 8 ? (few ? mix_vectors<Machine, 8, 4> : mix_vectors<Machine, 8, 8>)
                                : (few ? mix_vectors<Machine, 4, 4> : mix_vectors<Machine, 4, 16>);
    mix(parts.vectors, count, factors);
  }
  for (const Elements& part : parts.elements) {
    constexpr const char* kName = "mix of elements";
    if (wide) {
      launch_mix<Machine>(MixElements<double>{}, part, count, factors, kName);
    } else {
      launch_mix<Machine>(MixElements<float>{}, part, count, factors, kName);
    }
  }
}

}  // namespace gk::cuda
