// The ops on CUDA tensors.
#include "cuda/kernels.h"
#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(growkernels, CUDA, m) { gk::Ops<gk::cuda::kKernels>::add_to(m); }
