// The compiled implementations of the ops whose schemas growkernels/ops defines: one body for every backend's kernels.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include "arguments.h"
#include "pages.h"
#include "versions.h"

namespace gk {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A new tensor where `like` is.
inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  Tensor out = torch::stable::new_empty(like, {sizes.data(), sizes.size()}, dtype);
  if (like.is_cpu()) ask_for_huge_pages(out.data_ptr(), out.numel() * out.element_size());
  return out;
}

// Makes the device of the tensors the current one, where that means something. Refuses tensors on several: a pointer
// from elsewhere would end a kernel, and with it the process's use of the GPU.
class OnDevice {
 public:
  template <class... Others>
  explicit OnDevice(const Tensor& first, const Others&... others) : cpu_(first.is_cpu()) {
    if (!cpu_) index_ = first.get_device_index();
    (check(others), ...);
    if (!cpu_) guard_.emplace(index_);
  }

 private:
  void check(const Tensor& other) const {
    const bool same = cpu_ ? other.is_cpu() : !other.is_cpu() && other.get_device_index() == index_;
    if (!same) refuse("tensors of one call are on different devices; put them on one");
  }
  void check(const std::vector<Tensor>& others) const {
    for (const Tensor& other : others) check(other);
  }

  const bool cpu_;
  torch::stable::accelerator::DeviceIndex index_ = 0;
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
};

template <const Kernels& kernels>
struct Ops {
  static void tile_(const Tensor& out, const Tensor& weight, int64_t n_out, int64_t n_in, bool diagonal,
                    double noise_std, std::optional<double> snr_db, int64_t key) {
    if (n_out < 1 || n_in < 1) refuse("n_out is ", n_out, ", n_in is ", n_in, "; expected at least one copy");
    if (out.dim() != weight.dim()) refuse("out has ", out.dim(), " axes, weight ", weight.dim());
    if (weight.dim() == 1 && n_in != 1) refuse("n_in is ", n_in, " for a vector; expected 1");
    View target = matrix_of(out), source = matrix_of(weight);
    check_memory({target}, {source});
    const OnDevice device(weight, out);
    RuleNumbers numbers;
    std::optional<Tensor> square;
    numbers.key = uint64_t(key);
    numbers.diagonal = diagonal;
    std::vector<Segment> rows{{0, source.sizes[0], 1, 1}}, cols{{0, source.sizes[1], 1, 1}};
    if (weight.dim() == 1) {
      cols[0].copies = n_out;
      numbers.diagonal = false;
    } else {
      rows[0].copies = n_out;
      cols[0].copies = n_in;
      numbers.divisor = diagonal ? 1.0 : double(n_in);
      numbers.noise_std = noise_std;
      if (snr_db && n_in > 1) {
        square = empty(weight, {1}, ScalarType::Double);
        auto* where = static_cast<double*>(square->data_ptr());
        kernels.mean_square(where, {source}, {numbers.divisor});
        numbers.square = where;
        numbers.snr = std::pow(10.0, -*snr_db / 20);
      }
    }
    const std::vector<TileJob> jobs{
        tile_job(std::move(target), std::move(source), std::move(rows), std::move(cols), numbers)};
    raise_version(out);
    kernels.tile(jobs);
  }

  static Tensor tile(const Tensor& weight, int64_t n_out, int64_t n_in, bool diagonal, double noise_std,
                     std::optional<double> snr_db, int64_t key, ScalarType dtype) {
    std::vector<int64_t> sizes{weight.sizes().begin(), weight.sizes().end()};
    if (sizes.size() != 1 && sizes.size() != 2) refuse("expected a matrix or a vector, got ", sizes.size(), " axes");
    if (n_out < 1 || n_in < 1) refuse("n_out is ", n_out, ", n_in is ", n_in, "; expected at least one copy");
    int64_t bytes = 8;
    if (__builtin_mul_overflow(sizes[0], n_out, &sizes[0]) || __builtin_mul_overflow(sizes[0], bytes, &bytes) ||
        (sizes.size() == 2 &&
         (__builtin_mul_overflow(sizes[1], n_in, &sizes[1]) || __builtin_mul_overflow(sizes[1], bytes, &bytes)))) {
      refuse("n_out=", n_out, " and n_in=", n_in, " copies do not fit 64 bits");
    }
    Tensor out = empty(weight, sizes, dtype);
    tile_(out, weight, n_out, n_in, diagonal, noise_std, snr_db, key);
    return out;
  }

  static void tile_rules_(const std::vector<Tensor>& outs, const std::vector<Tensor>& weights,
                          const std::vector<int64_t>& layout, const std::vector<double>& scalars) {
    std::vector<View> targets, sources;
    targets.reserve(outs.size());
    sources.reserve(weights.size());
    for (const Tensor& out : outs) targets.push_back(matrix_of(out));
    for (const Tensor& weight : weights) sources.push_back(matrix_of(weight));
    for (size_t i = 0; i < std::min(outs.size(), weights.size()); ++i) {
      if (outs[i].dim() != weights[i].dim()) refuse("out has ", outs[i].dim(), " axes, weight ", weights[i].dim());
    }
    check_memory(targets, sources);
    const std::vector<TileJob> jobs = tile_jobs(std::move(targets), std::move(sources), layout, scalars);
    if (jobs.empty()) return;
    const OnDevice device(outs[0], outs, weights);
    raise_version(outs);
    kernels.tile(jobs);
  }

  static void replicate_(const std::vector<Tensor>& outs, const std::vector<Tensor>& blocks,
                         const std::vector<int64_t>& index, const std::vector<double>& scale, double noise_alpha,
                         double noise_std, int64_t key) {
    if (index.size() != outs.size() || scale.size() != outs.size()) {
      refuse(outs.size(), " outs, ", index.size(), " indices and ", scale.size(), " scales; expected as many of each");
    }
    const std::vector<View> targets = views_of(outs), sources = views_of(blocks);
    for (size_t i = 0; i < index.size(); ++i) {
      if (index[i] < 0 || index[i] >= int64_t(blocks.size())) {
        refuse("index ", index[i], " of ", blocks.size(), " blocks");
      }
      if (targets[i].sizes != sources[index[i]].sizes) refuse("output ", i, " and its block have different shapes");
    }
    check_memory(targets, sources);
    if (outs.empty()) return;
    const OnDevice device(outs[0], outs, blocks);
    raise_version(outs);
    kernels.replicate(targets, sources, {index, scale, noise_alpha, noise_std, uint64_t(key)});
  }

  static std::vector<Tensor> replicate(const std::vector<Tensor>& blocks, const std::vector<int64_t>& index,
                                       const std::vector<double>& scale, double noise_alpha, double noise_std,
                                       int64_t key) {
    std::vector<Tensor> outs;
    for (int64_t i : index) {
      if (i < 0 || i >= int64_t(blocks.size())) refuse("index ", i, " of ", blocks.size(), " blocks");
      const std::vector<int64_t> sizes{blocks[i].sizes().begin(), blocks[i].sizes().end()};
      outs.push_back(empty(blocks[i], sizes, blocks[i].scalar_type()));
    }
    replicate_(outs, blocks, index, scale, noise_alpha, noise_std, key);
    return outs;
  }

  static Tensor mean_square(const std::vector<Tensor>& tensors, const std::vector<double>& divisors) {
    if (divisors.size() != tensors.size()) refuse(divisors.size(), " divisors for ", tensors.size(), " tensors");
    if (tensors.empty()) refuse("no tensors; expected at least one");
    const OnDevice device(tensors[0], tensors);
    Tensor out = empty(tensors[0], {int64_t(tensors.size())}, ScalarType::Double);
    kernels.mean_square(static_cast<double*>(out.data_ptr()), views_of(tensors), divisors);
    return out;
  }

  static void normal_(const Tensor& out, int64_t key, int64_t field, int64_t start) {
    const View target = view_of(out);
    check_memory({target}, {});
    const OnDevice device(out);
    raise_version(out);
    kernels.normal(target, uint64_t(key), uint64_t(field), uint64_t(start));
  }

  static void mix_(const std::vector<Tensor>& outs, const std::vector<Tensor>& sources, const Tensor& coefficients) {
    const std::vector<View> targets = views_of(outs), terms = views_of(sources);
    const View factors = view_of(coefficients);
    check_pairs(targets, terms, factors, "coefficients");
    std::vector<View> inputs = terms;
    inputs.push_back(factors);
    check_memory(targets, inputs);
    const OnDevice device(outs[0], outs, sources, coefficients);
    raise_version(outs);
    kernels.mix(targets, terms, factors);
  }

  static void inner_products_(const Tensor& out, const std::vector<Tensor>& left, const std::vector<Tensor>& right) {
    const std::vector<View> first = views_of(left), second = views_of(right);
    const View target = view_of(out);
    check_pairs(first, second, target, "out");
    std::vector<View> inputs = first;
    inputs.insert(inputs.end(), second.begin(), second.end());
    check_memory({target}, inputs);
    const OnDevice device(out, left, right);
    raise_version(out);
    kernels.inner_products(target, first, second);
  }

  static void add_to(torch::stable::detail::StableLibrary& m) {
    m.impl("tile_", TORCH_BOX(&Ops::tile_));
    m.impl("tile", TORCH_BOX(&Ops::tile));
    m.impl("tile_rules_", TORCH_BOX(&Ops::tile_rules_));
    m.impl("replicate_", TORCH_BOX(&Ops::replicate_));
    m.impl("replicate", TORCH_BOX(&Ops::replicate));
    m.impl("mean_square", TORCH_BOX(&Ops::mean_square));
    m.impl("normal_", TORCH_BOX(&Ops::normal_));
    m.impl("mix_", TORCH_BOX(&Ops::mix_));
    m.impl("inner_products_", TORCH_BOX(&Ops::inner_products_));
  }
};

}  // namespace gk
