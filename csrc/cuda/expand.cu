#include "inner_products.h"
#include "kernels.h"
#include "launch.cuh"
#include "mix.h"

namespace gk {

void cuda::mix(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients) {
  mix_on<Gpu>(outs, sources, coefficients);
}

void cuda::inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  inner_products_on<Gpu>(out, left, right);
}

}  // namespace gk
