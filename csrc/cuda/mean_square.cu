#include "kernels.h"
#include "launch.cuh"
#include "mean_square.h"

namespace gk {

void cuda::mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors) {
  mean_square_on<Gpu>(means, views, divisors);
}

}  // namespace gk
