// The CUDA kernels on the emulated machine.
#include "emulate.h"
#include "kernels.h"
#include "noise.h"

namespace gk {

void emulated::normal(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  cuda::normal_on<cuda::Emulated>(out, key, field, start);
}

}  // namespace gk
