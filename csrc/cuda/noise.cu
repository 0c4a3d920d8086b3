#include "kernels.h"
#include "launch.cuh"
#include "noise.h"

namespace gk {

void cuda::normal(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  normal_on<Gpu>(out, key, field, start);
}

}  // namespace gk
