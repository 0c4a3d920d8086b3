// Version counters: how autograd notices that a tensor it saved was overwritten.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

namespace gk {

// Raise the counters of tensors that are about to be written. Refuses every tensor that requires grad while gradients
// are recorded, since these ops have none, and, as torch does, an inference tensor outside of inference mode.
void raise_version(const torch::stable::Tensor& out);
void raise_version(const std::vector<torch::stable::Tensor>& outs);

}  // namespace gk
