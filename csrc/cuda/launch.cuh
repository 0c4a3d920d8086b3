// Launches of kernels as lanes.h describes them.
#pragma once

#include <cuda_runtime.h>

#include "lanes.h"
#include "machine.h"

namespace gk::cuda {

struct Gpu {
  static constexpr int64_t kPieceVisits = 1 << 30;

  using Buffer = cuda::Buffer;

  static void upload(void* to, const void* from, size_t bytes) { cuda::upload(to, from, bytes); }
  // A grid that stays: blocks take tasks until none are left.
  template <class Kernel>
  static void launch(const Kernel& kernel, int64_t wanted, const char* op) {
    static_assert(sizeof(Kernel) <= 4096, "parameters of a kernel before CUDA 12.1");
    const auto function = run<Kernel>;
    const int64_t blocks = resident_blocks(reinterpret_cast<const void*>(function), wanted, op);
    function<<<unsigned(blocks), kThreads, 0, static_cast<cudaStream_t>(current_stream())>>>(kernel);
    check_launch(op);
  }
};

}  // namespace gk::cuda
