// The CUDA kernels on the emulated machine.
#include "kernels.h"

#include "cuda/inner_products.h"
#include "cuda/mean_square.h"
#include "cuda/mix.h"
#include "cuda/noise.h"
#include "cuda/replicate.h"
#include "cuda/tile.h"
#include "emulate.h"

namespace gk {

void emulated::tile(const std::vector<TileJob>& jobs) { cuda::tile_on<cuda::Emulated>(jobs); }

void emulated::replicate(const std::vector<View>& outs, const std::vector<View>& blocks,
                         const ReplicateNumbers& numbers) {
  cuda::replicate_on<cuda::Emulated>(outs, blocks, numbers);
}

void emulated::mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors) {
  cuda::mean_square_on<cuda::Emulated>(means, views, divisors);
}

void emulated::normal(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  cuda::normal_on<cuda::Emulated>(out, key, field, start);
}

void emulated::mix(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients) {
  cuda::mix_on<cuda::Emulated>(outs, sources, coefficients);
}

void emulated::inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  cuda::inner_products_on<cuda::Emulated>(out, left, right);
}

}  // namespace gk
