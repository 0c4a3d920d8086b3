// Memory and streams of torch, for launchers that do not link against its CUDA library.
//
// Anything that references libtorch_cuda does not load with a CPU build of torch; so the stream is looked up at run
// time.
#include "machine.h"

#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>

#include <stdexcept>

namespace gk::cuda {

using torch::headeronly::ScalarType;

struct Buffer::Owner {
  torch::stable::Tensor tensor;
};

Buffer::Buffer(size_t bytes) {
  const int64_t size = int64_t(bytes);
  const torch::stable::Device device(torch::headeronly::DeviceType::CUDA, current_device());
  owner_.reset(new Owner{torch::stable::empty({&size, 1}, ScalarType::Byte, std::nullopt, device)});
  data_ = owner_->tensor.data_ptr();
}

Buffer::~Buffer() = default;

void* current_stream() {
  using Lookup = int32_t (*)(int32_t device, void** stream);
  static const auto lookup = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Lookup>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  void* stream = nullptr;
  if (!lookup || lookup(current_device(), &stream)) {
    throw std::runtime_error("torch's current CUDA stream was not found: a CUDA tensor needs a CUDA build of torch");
  }
  return stream;
}

}  // namespace gk::cuda
