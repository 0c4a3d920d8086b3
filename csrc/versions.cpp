#include "versions.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <array>

#include "arguments.h"

namespace gk {

using torch::stable::Tensor;

namespace {

// Whether autograd follows the tensor as a result of others. The stable interface does not say which tensors require
// grad; a leaf that does is refused by the copy below.
bool is_result(const Tensor& tensor) {
  std::array<StableIValue, 1> stack{torch::stable::detail::from(tensor)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::is_leaf", "", stack.data(), TORCH_ABI_VERSION));
  return !torch::stable::detail::to<bool>(stack[0]);
}

}  // namespace

// torch's stable interface has neither a counter nor a way past a dispatch key, so a kernel of ADInplaceOrView could
// not hand the call on. A copy of a tensor to itself passes the layers of torch that refuse and count, and moves
// nothing: 0.1 to 0.3 us.
void raise_version(const Tensor& out) { raise_version(std::vector<Tensor>{out}); }

void raise_version(const std::vector<Tensor>& outs) {
  // Of a result the copy would be recorded: gradients of what was overwritten would flow to what it was made of.
  bool refused = aoti_torch_grad_mode_is_enabled() && std::any_of(outs.begin(), outs.end(), is_result);
  for (auto out = outs.begin(); out != outs.end() && !refused; ++out) {
    refused = aoti_torch_copy_(out->get(), out->get(), 0) != AOTI_TORCH_SUCCESS;
  }
  if (!refused) return;
  refuse(
      "out requires grad and in-place ops do not record gradients (call them under torch.no_grad()), or out is an "
      "inference tensor that is written outside of torch.inference_mode() (clone() it first)");
}

}  // namespace gk
