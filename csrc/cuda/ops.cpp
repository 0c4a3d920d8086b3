// The ops on CUDA tensors.
#include "../ops.h"
#include "kernels.h"

STABLE_TORCH_LIBRARY_IMPL(growkernels, CUDA, m) { gk::Ops<gk::cuda::kKernels>::add_to(m); }
