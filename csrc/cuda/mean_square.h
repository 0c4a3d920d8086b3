// `mean_square`: warps sum blocks of elements, and whichever comes last sums their sums.
#pragma once

#include <cmath>
#include <vector>

#include "../common/jobs.h"
#include "../common/sum_order.h"
#include "flat_view.h"
#include "items.h"
#include "lanes.h"
#include "table.h"

namespace gk::cuda {

// A tensor and where its sums are: those of its blocks, then those of the next levels, and for each of the upper levels
// a count of how many sums below have arrived.
struct SquareJob {
  FlatView view;
  int64_t count, first_task, first_sum, first_arrival;
  // Blocks that whole vectors cover: a warp takes `width` of them side by side, and any other block alone.
  int64_t whole;
  int32_t width, mean;
  double divisor;
  bool inverted;  // `divisor` is an inverse to multiply with: the same bits, for powers of two

  GK_INLINE int64_t blocks() const { return (count + kSumBlock - 1) / kSumBlock; }
  GK_INLINE int64_t vector_tasks() const { return (whole + width - 1) / width; }
};

GK_INLINE double square(double x) { return x * x; }

// A value divided. `kBatch`: rows of lanes that are read ahead of their sums; a division is long, so fewer of them.
struct Product {
  static constexpr int kBatch = 8;
  float factor;
  GK_INLINE float operator()(float x) const { return x * factor; }
};
struct Quotient {
  static constexpr int kBatch = 2;
  float divisor;
  GK_INLINE float operator()(float x) const { return x / divisor; }
};

struct MeanSquareKernel {
  using Shared = Empty;
  static constexpr int kRows = int(kSumBlock / kSumLanes);
  static_assert(kSumLanes == kWarp, "a lane of the sum is a lane of a warp");

  Table table;
  Entries<SquareJob> jobs;
  int64_t tasks;
  double* sums;
  uint32_t* arrivals;
  double* means;

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared&) const {
    for (int64_t task = lanes.block() + lanes.blocks() * lanes.warp(); task < tasks; task += lanes.blocks() * kWarps) {
      const SquareJob& job = table.entry_of(jobs, task);
      const int64_t turn = task - job.first_task;
      int64_t first = turn * job.width;
      int number = 1;
      if (turn < job.vector_tasks()) {
        const int64_t left = job.whole - first;
        if (job.inverted) {
          vector_blocks(lanes, job, first, Product{float(job.divisor)});
        } else {
          vector_blocks(lanes, job, first, Quotient{float(job.divisor)});
        }
        number = int(left < job.width ? left : job.width);
      } else {
        first = job.whole + turn - job.vector_tasks();
        if (job.view.dtype == DType::kFloat64) {
          one_block<double>(lanes, job, first);
        } else {
          one_block<float>(lanes, job, first);
        }
      }
      finish(lanes, job, first, number);
    }
  }

 private:
  template <class Lanes, class Scale>
  GK_KERNEL void vector_blocks(Lanes& lanes, const SquareJob& job, int64_t first, const Scale& scale) const {
    if (job.width == 4) {
      vector_blocks<4, 4>(lanes, job, first, scale);
    } else {
      vector_blocks<2, 8>(lanes, job, first, scale);
    }
  }

  // Sums of `Width` blocks: each by so many threads that one access of 16 bytes each covers a row of lanes.
  template <int Item, int Width, class Lanes, class Scale>
  GK_KERNEL void vector_blocks(Lanes& lanes, const SquareJob& job, int64_t first, const Scale& scale) const {
    constexpr int kParts = kSumLanes / Width, kBatch = Scale::kBatch;
    const int part = lanes.lane() % kParts;
    const int64_t block = first + lanes.lane() / kParts;
    double lane_sums[Width] = {};
    if (block < job.whole) {
      const char* from = job.view.data + (block * kSumBlock + part * Width) * Item;
      for (int row = 0; row < kRows; row += kBatch) {
        Words<16> words[kBatch];
        GK_UNROLL
        for (int i = 0; i < kBatch; ++i) words[i] = load_words<16>(from + (row + i) * kSumLanes * Item);
        GK_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          float x[Width];
          values_of<Item>(x, words[i], job.view.dtype);
          GK_UNROLL
          for (int j = 0; j < Width; ++j) lane_sums[j] = lane_sums[j] + square(scale(x[j]));
        }
      }
    }
    GK_UNROLL
    for (int distance = kParts / 2; distance; distance /= 2) {
      GK_UNROLL
      for (int j = 0; j < Width; ++j) lane_sums[j] = lane_sums[j] + lanes.shuffle_down(lane_sums[j], distance);
    }
    GK_UNROLL
    for (int width = Width / 2; width; width /= 2) {
      GK_UNROLL
      for (int j = 0; j < width; ++j) lane_sums[j] = lane_sums[j] + lane_sums[j + width];
    }
    if (part == 0 && block < job.whole) sums[job.first_sum + block] = lane_sums[0];
  }

  template <class Compute, class Lanes>
  GK_KERNEL void one_block(Lanes& lanes, const SquareJob& job, int64_t block) const {
    constexpr int kBatch = 4;
    const Compute divisor = Compute(job.divisor);
    const int64_t first = block * kSumBlock, left = job.count - first;
    const int n = int(left < kSumBlock ? left : kSumBlock), item = element_size(job.view.dtype);
    double sum = 0;
    for (int i = lanes.lane(); i < n; i += kBatch * kSumLanes) {
      uint64_t items[kBatch];
      GK_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        const int at = i + k * kSumLanes;
        if (at < n) items[k] = load_item(item, job.view.at(first + at));
      }
      GK_UNROLL
      for (int k = 0; k < kBatch; ++k) {
        if (i + k * kSumLanes >= n) continue;
        const Compute x = value_of<Compute>(job.view.dtype, items[k]);
        sum = sum + square(job.inverted ? x * divisor : x / divisor);
      }
    }
    sum = halved(lanes, sum);
    if (lanes.lane() == 0) sums[job.first_sum + block] = sum;
  }

  template <class Lanes>
  static GK_KERNEL double halved(Lanes& lanes, double sum) {
    GK_UNROLL
    for (int distance = kWarp / 2; distance; distance /= 2) sum = sum + lanes.shuffle_down(sum, distance);
    return sum;
  }

  // `number` sums of blocks have been written by this warp, from `first` on. The warp that completes a block of sums
  // sums it, and so on up.
  template <class Lanes>
  GK_KERNEL void finish(Lanes& lanes, const SquareJob& job, int64_t first, int number) const {
    double* level = sums + job.first_sum;
    uint32_t* arrived = arrivals + job.first_arrival;
    for (int64_t size = job.blocks(); size > 1;) {
      const int64_t block = first / kSumBlock, begin = block * kSumBlock, blocks = (size + kSumBlock - 1) / kSumBlock;
      const int n = int(size - begin < kSumBlock ? size - begin : kSumBlock);
      lanes.sync_warp();
      const int before = lanes.lane() == 0 ? int(lanes.arrive(arrived + block, number)) : 0;
      if (lanes.first_of_warp(before) + number < n) return;
      lanes.sync_warp();
      double sum = 0;
      for (int i = lanes.lane(); i < n; i += kSumLanes) sum = sum + level[begin + i];
      sum = halved(lanes, sum);
      level += size;
      arrived += blocks;
      if (lanes.lane() == 0) level[block] = sum;
      first = block;
      number = 1;
      size = blocks;
    }
    if (lanes.lane() == 0) means[job.mean] = level[0] / double(job.count);
  }
};

// Whether multiplying with the inverse gives the bits of dividing.
inline bool inverts(double divisor, bool wide) {
  int exponent = 0;
  const double digits = std::frexp(wide ? divisor : double(float(divisor)), &exponent);
  return std::fabs(digits) == 0.5 && std::abs(exponent) < (wide ? 1022 : 126);
}

inline SquareJob square_job(const View& view, double divisor, int64_t mean) {
  SquareJob job{};
  job.view = flat_view(view);
  job.count = view.numel();
  job.mean = int32_t(mean);
  const bool wide = view.dtype == DType::kFloat64;
  job.inverted = inverts(divisor, wide);
  job.divisor = wide ? divisor : double(float(divisor));
  if (job.inverted) job.divisor = 1 / job.divisor;
  job.width = wide ? 1 : 16 / view.item();
  const bool dense = job.view.axes == 1 && job.view.strides[0] == 1;
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
  job.whole = dense && aligned && !wide ? job.count / kSumBlock : 0;
  return job;
}

template <class Machine>
void mean_square_on(double* means, const std::vector<View>& views, const std::vector<double>& divisors) {
  MeanSquareKernel kernel{};
  kernel.means = means;
  std::vector<SquareJob> jobs;
  int64_t sums = 0, arrivals = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    SquareJob job = square_job(views[i], divisors[i], int64_t(i));
    if (!job.count) {
      constexpr double kNone = 0;
      Machine::upload(means + i, &kNone, sizeof(kNone));
      continue;
    }
    job.first_task = kernel.tasks;
    job.first_sum = sums;
    job.first_arrival = arrivals;
    kernel.tasks += job.vector_tasks() + job.blocks() - job.whole;
    for (int64_t size = job.blocks(); size;) {
      sums += size;
      size = size > 1 ? (size + kSumBlock - 1) / kSumBlock : 0;
      arrivals += size;
    }
    jobs.push_back(job);
  }
  if (jobs.empty()) return;
  TableBytes table;
  kernel.jobs = table.add(jobs);
  const auto descriptors = table.place<Machine>(kernel.table);
  const std::vector<uint64_t> none((arrivals + 1) / 2);
  typename Machine::Buffer memory((none.size() + sums) * sizeof(double));
  kernel.arrivals = static_cast<uint32_t*>(memory.data());
  kernel.sums = static_cast<double*>(memory.data()) + none.size();
  if (arrivals) Machine::upload(memory.data(), none.data(), none.size() * sizeof(uint64_t));
  Machine::launch(kernel, kernel.tasks, "mean_square");
}

}  // namespace gk::cuda
