// The GPU as host code sees it: memory, uploads, launches, all on the current stream of the current device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace gk::cuda {

// Memory of torch's allocator, freed in stream order.
class Buffer {
 public:
  explicit Buffer(size_t bytes);
  ~Buffer();
  void* data() { return data_; }

 private:
  struct Owner;
  std::unique_ptr<Owner> owner_;
  void* data_;
};

int current_device();

// The current stream (a cudaStream_t) of the current device.
void* current_stream();

// Copies whole words of 8 bytes through kernel parameters: asynchronous, with nothing left to keep alive, so a CUDA
// graph can hold it.
void upload(void* to, const void* from, size_t bytes);

// As many blocks as run at once on the current device with `kernel`, a function compiled by nvcc; at most `wanted`.
int64_t resident_blocks(const void* kernel, int64_t wanted, const char* op);

// Throws with the op's name if the last launch failed.
void check_launch(const char* op);

}  // namespace gk::cuda
