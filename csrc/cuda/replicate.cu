#include "kernels.h"
#include "launch.cuh"
#include "replicate.h"

namespace gk {

void cuda::replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers) {
  replicate_on<Gpu>(outs, blocks, numbers);
}

}  // namespace gk
