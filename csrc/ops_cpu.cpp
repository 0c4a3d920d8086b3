// The ops on CPU tensors.
#include "cpu/kernels.h"
#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(growkernels, CPU, m) { gk::Ops<gk::cpu::kKernels>::add_to(m); }
