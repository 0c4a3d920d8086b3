// `replicate`: copies of blocks, each scaled and with its own noise; a source element is read once for all its copies.
//
// What lies densely and equally aligned at both ends goes by vectors, the rest by elements.
#pragma once

#include <type_traits>

#include "../common/rule.h"
#include "items.h"
#include "noise.h"
#include "replicate_parts.h"
#include "table.h"

namespace gk::cuda {

// What noise makes of a scaled value.
template <class Compute>
struct Blend {
  Compute keep, alpha, std;

  explicit Blend(const ReplicateNumbers& numbers)
      : keep(Compute(1.0 - numbers.alpha)), alpha(Compute(numbers.alpha)), std(Compute(numbers.std)) {}
  GK_INLINE Compute operator()(Compute value, float z) const { return keep * value + alpha * (std * Compute(z)); }
};

// Vectors of one pair of dtypes with items of `From` and `To` bytes, none of 8.
template <int From, int To, bool kNoisy>
struct CopyVectors {
  // Elements of one access; accesses of a thread in flight; vectors of a task.
  static constexpr int kWidth = vector_width(From, To), kBatch = kNoisy ? 2 : 4;
  static constexpr int64_t kTask = kBatch * kThreads;

  struct Room {
    alignas(16) float z[kThreads * kWidth + 4];
  };
  using Shared = std::conditional_t<kNoisy, Room, Empty>;

  Table table;
  Entries<VectorGroup> groups;
  Entries<VectorCopy> copies;
  int64_t tasks;
  DType from, to;
  KeySchedule key;
  Blend<float> blend;

  CopyVectors(DType from, DType to, const ReplicateNumbers& numbers)
      : tasks(0), from(from), to(to), key(numbers.key), blend(numbers) {}

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const {
    for (int64_t task = lanes.block(); task < tasks; task += lanes.blocks()) {
      const VectorGroup group = table.entry_of(groups, task);
      const int64_t first = (task - group.first_task) * kTask;
      Words<kWidth * From> source[kBatch];
      GK_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        const int64_t v = first + i * kThreads + lanes.thread();
        if (v < group.count) source[i] = load_words<kWidth * From>(group.source + v * (kWidth * From));
      }
      for (int32_t c = 0; c < group.copies; ++c) {
        const VectorCopy copy = table.at(copies)[group.first_copy + c];
        GK_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          const int64_t begin = first + i * kThreads;
          float z[kWidth];
          if constexpr (kNoisy) normals(lanes, shared, copy.first_element + begin * kWidth, z);
          const int64_t v = begin + lanes.thread();
          if (v < group.count) store_words(copy.out + v * (kWidth * To), written(copy, source[i], z));
        }
      }
    }
  }

 private:
  // A thread's normals of the block's vectors, which begin with element `e` of the noise.
  template <class Lanes>
  GK_KERNEL void normals(Lanes& lanes, Shared& shared, uint64_t e, float (&z)[kWidth]) const {
    if (e % 4 == 0) {
      GK_UNROLL
      for (int i = 0; i < kWidth; i += 4) {
        const Quad quad = normal_quad(key, kCopyField, (e + lanes.thread() * kWidth + i) / 4);
        GK_UNROLL
        for (int j = 0; j < 4; ++j) z[i + j] = quad.z[j];
      }
    } else {
      const float* made = block_normals(lanes, shared.z, key, kCopyField, e, kThreads * kWidth);
      GK_UNROLL
      for (int i = 0; i < kWidth; ++i) z[i] = made[lanes.thread() * kWidth + i];
    }
  }

  GK_KERNEL Words<kWidth * To> written(const VectorCopy& copy, const Words<kWidth * From>& source,
                                       const float (&z)[kWidth]) const {
    if constexpr (From == To && !kNoisy) {
      if (copy.moves) return source;
    }
    float x[kWidth];
    values_of<From>(x, source, from);
    GK_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      x[i] = copy.scale * x[i];
      if constexpr (kNoisy) x[i] = blend(x[i], z[i]);
    }
    return items_of<To>(x, to);
  }
};

// Elements of any dtypes and strides.
template <bool kNoisy>
struct CopyElements {
  static constexpr int kBatch = 4, kStep = kNormals;
  static_assert(kStep <= kBatch * kThreads, "a step is one batch of every thread");
  static constexpr int64_t kTask = 4 * kStep;

  struct Room {
    alignas(16) float z[kStep + 4];
  };
  using Shared = std::conditional_t<kNoisy, Room, Empty>;

  Table table;
  Entries<ElementGroup> groups;
  Entries<ElementCopy> copies;
  int64_t tasks;
  KeySchedule key;
  Blend<float> blend;
  Blend<double> wide_blend;

  explicit CopyElements(const ReplicateNumbers& numbers)
      : tasks(0), key(numbers.key), blend(numbers), wide_blend(numbers) {}

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const {
    for (int64_t task = lanes.block(); task < tasks; task += lanes.blocks()) {
      const ElementGroup& group = table.entry_of(groups, task);
      const int64_t begin = (task - group.first_task) * kTask;
      const int64_t end = begin + kTask < group.count ? begin + kTask : group.count;
      for (int64_t first = begin; first < end; first += kStep) {
        step(lanes, shared, group, first, int(end - first < kStep ? end - first : kStep));
      }
    }
  }

 private:
  template <class Lanes>
  GK_KERNEL void step(Lanes& lanes, Shared& shared, const ElementGroup& group, int64_t first, int n) const {
    const DType from = group.source.dtype;
    uint64_t source[kBatch];
    GK_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const int i = lanes.thread() + k * kThreads;
      if (i < n) source[k] = load_item(element_size(from), group.source.at(first + i));
    }
    for (int32_t c = 0; c < group.copies; ++c) {
      const ElementCopy& copy = table.at(copies)[group.first_copy + c];
      const DType to = copy.out.dtype;
      const float* z = nullptr;
      if constexpr (kNoisy) {
        z = block_normals(lanes, shared.z, key, kCopyField, copy.first_element + first, n);
      }
      GK_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        const int i = lanes.thread() + k * kThreads;
        if (i >= n) continue;
        uint64_t item = source[k];
        if (copy.moves) {
          // As it is.
        } else if (computes_in_double(from, to)) {
          item = written(wide_blend, from, to, copy.scale, item, z + i);
        } else {
          item = written(blend, from, to, copy.scale, item, z + i);
        }
        store_item(element_size(to), copy.out.at(first + i), item);
      }
    }
  }

  template <class Compute>
  static GK_KERNEL uint64_t written(const Blend<Compute>& blend, DType from, DType to, double scale, uint64_t item,
                                    const float* z) {
    Compute x = Compute(scale) * value_of<Compute>(from, item);
    if constexpr (kNoisy) x = blend(x, *z);
    return item_of<Compute>(to, x);
  }
};

template <class Machine, class Kernel, class Part>
void launch_part(Kernel kernel, Part& part, const char* name) {
  for (auto& group : part.groups) {
    group.first_task = kernel.tasks;
    kernel.tasks += (group.count + Kernel::kTask - 1) / Kernel::kTask;
  }
  TableBytes table;
  kernel.groups = table.add(part.groups);
  kernel.copies = table.add(part.copies);
  const auto memory = table.place<Machine>(kernel.table);
  Machine::launch(kernel, kernel.tasks, name);
}

template <class Machine, bool kNoisy>
void launch_parts(Parts parts, const ReplicateNumbers& numbers) {
  constexpr const char* kVectors = "replicate of vectors";
  for (auto& [dtypes, part] : parts.vectors) {
    const auto [from, to] = dtypes;
    if (element_size(from) == 2 && element_size(to) == 2) {
      launch_part<Machine>(CopyVectors<2, 2, kNoisy>(from, to, numbers), part, kVectors);
    } else if (element_size(from) == 2) {
      launch_part<Machine>(CopyVectors<2, 4, kNoisy>(from, to, numbers), part, kVectors);
    } else if (element_size(to) == 2) {
      launch_part<Machine>(CopyVectors<4, 2, kNoisy>(from, to, numbers), part, kVectors);
    } else {
      launch_part<Machine>(CopyVectors<4, 4, kNoisy>(from, to, numbers), part, kVectors);
    }
  }
  if (parts.elements.groups.empty()) return;
  launch_part<Machine>(CopyElements<kNoisy>(numbers), parts.elements, "replicate of elements");
}

template <class Machine>
void replicate_on(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers) {
  const auto launch = numbers.alpha == 0 ? launch_parts<Machine, false> : launch_parts<Machine, true>;
  launch(parts_of(outs, blocks, numbers), numbers);
}

}  // namespace gk::cuda
