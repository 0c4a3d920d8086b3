// The ops of the emulated GPU.
#include "ops.h"

#include "kernels.h"

STABLE_TORCH_LIBRARY_IMPL(growkernels_emulated, CPU, m) { gk::Ops<gk::emulated::kKernels>::add_to(m); }
