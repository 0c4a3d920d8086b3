// From torch tensors and packed numbers to what kernels take; everything that could read or write out of bounds is
// refused.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <sstream>
#include <vector>

#include "common/jobs.h"
#include "common/refusal.h"

namespace gk {

// Refuses arguments, with the pieces of the message in order.
template <class... Pieces>
[[noreturn]] void refuse(const Pieces&... pieces) {
  std::ostringstream message;
  (message << ... << pieces);
  throw Refusal(message.str());
}

View view_of(const torch::stable::Tensor& tensor);
std::vector<View> views_of(const std::vector<torch::stable::Tensor>& tensors);

// A matrix as it is, a vector as one row.
View matrix_of(const torch::stable::Tensor& tensor);

// Refuses outputs that share memory with themselves, with one another or with an input.
void check_memory(const std::vector<View>& outs, const std::vector<View>& inputs);

// Refuses lists that are empty, views that differ in shape, and a `table` that is not one number for each pair.
void check_pairs(const std::vector<View>& left, const std::vector<View>& right, const View& table, const char* name);

// A rule applied to two matrices, its segments checked against their sizes.
TileJob tile_job(View out, View weight, std::vector<Segment> rows, std::vector<Segment> cols,
                 const RuleNumbers& numbers);

// The rules packed into `layout` and `scalars` as the op's schema tells, their numbers ones to compute with.
std::vector<TileJob> tile_jobs(std::vector<View> outs, std::vector<View> weights, const std::vector<int64_t>& layout,
                               const std::vector<double>& scalars);

}  // namespace gk
