// The ops of the emulated GPU.
#include "cuda/kernels.h"
#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(growkernels_emulated, CPU, m) { gk::Ops<gk::emulated::kKernels>::add_to(m); }
