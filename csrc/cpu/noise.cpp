// The normals themselves, and the mean square that sets their size.
#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "runs.h"
#include "vector.h"

namespace gk {
namespace {

constexpr int64_t kChunk = 1024;

template <class Compute>
void normal_run(const View& out, char* target, int64_t stride, const float* z, int64_t n) {
  const auto& compute = loops().compute<Compute>();
  const int kind = int(out.dtype);
  Compute values[kChunk];
  std::copy(z, z + n, values);
  if (stride == 1) {
    compute.store[kind](target, values, n);
  } else {
    for (int64_t i = 0; i < n; ++i) compute.store[kind](target + i * stride * out.item(), values + i, 1);
  }
}

// Sums by kSumBlock until one is left.
double reduce(std::vector<double> sums) {
  while (sums.size() > 1) {
    std::vector<double> next;
    for (size_t i = 0; i < sums.size(); i += kSumBlock) {
      next.push_back(loops().sum(sums.data() + i, std::min<int64_t>(kSumBlock, sums.size() - i)));
    }
    sums = std::move(next);
  }
  return sums.empty() ? 0.0 : sums[0];
}

template <class Compute>
double block_sum(const View& view, double divisor, int64_t block, int64_t n) {
  Compute values[kSumBlock];
  load(values, view, block * kSumBlock, n);
  return loops().compute<Compute>().square_sum(values, Compute(divisor), n);
}

}  // namespace

void cpu::normal(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  const View view = collapsed(out);
  const int64_t n = view.numel();
  for_each_unit((n + kChunk - 1) / kChunk, n, [&](int64_t unit) {
    alignas(64) float buffer[kChunk + kNormalsSlack];
    const int64_t e = unit * kChunk, count = std::min(kChunk, n - e);
    const float* z = loops().normals(buffer, key, field, start + e, count);
    for_each_run(view, e, count, [&](int64_t offset, int64_t stride, int64_t done, int64_t length) {
      const auto run = view.dtype == DType::kFloat64 ? normal_run<double> : normal_run<float>;
      run(view, view.at(offset), stride, z + done, length);
    });
  });
}

void cpu::mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors) {
  constexpr int64_t kBlocksPerUnit = 16;
  std::vector<View> flat;
  std::vector<std::vector<double>> sums;
  std::vector<int64_t> first_unit{0};
  int64_t elements = 0;
  for (const View& view : views) {
    flat.push_back(collapsed(view));
    const int64_t blocks = (view.numel() + kSumBlock - 1) / kSumBlock;
    sums.emplace_back(blocks);
    first_unit.push_back(first_unit.back() + (blocks + kBlocksPerUnit - 1) / kBlocksPerUnit);
    elements += view.numel();
  }
  for_each_unit(first_unit.back(), elements, [&](int64_t unit) {
    const size_t i = std::upper_bound(first_unit.begin(), first_unit.end(), unit) - first_unit.begin() - 1;
    const int64_t n = flat[i].numel(), first = (unit - first_unit[i]) * kBlocksPerUnit;
    const int64_t last = std::min<int64_t>(first + kBlocksPerUnit, sums[i].size());
    const auto sum = flat[i].dtype == DType::kFloat64 ? block_sum<double> : block_sum<float>;
    for (int64_t block = first; block < last; ++block) {
      sums[i][block] = sum(flat[i], divisors[i], block, std::min(kSumBlock, n - block * kSumBlock));
    }
  });
  for (size_t i = 0; i < flat.size(); ++i) {
    const int64_t n = flat[i].numel();
    means[i] = n ? reduce(std::move(sums[i])) / double(n) : 0.0;
  }
}

}  // namespace gk
