// The CPU kernels behind a C interface, without torch: what a machine without x86-64's intrinsics compiles.
#include "../../csrc/cpu/kernels.h"
#include "../../csrc/cpu/parallel.h"
#include "../../csrc/cpu/vector.h"

namespace gk {

void run_on_threads(int64_t, void (*work)(void*), void* context) { work(context); }
int64_t thread_count() { return 1; }

}  // namespace gk

namespace {

gk::View matrix(void* data, int dtype, int64_t rows, int64_t columns) {
  return {static_cast<char*>(data), gk::DType(dtype), {rows, columns}, {columns, 1}};
}

}  // namespace

extern "C" {

const char* instructions() { return gk::loops().name; }

void tile(void* out, const void* weight, int dtype, int64_t rows, int64_t columns, int64_t n_out, int64_t n_in,
          double noise_std, uint64_t key) {
  gk::RuleNumbers numbers;
  numbers.divisor = double(n_in);
  numbers.noise_std = noise_std;
  numbers.key = key;
  gk::cpu::tile(
      {{matrix(out, dtype, n_out * rows, n_in * columns), matrix(const_cast<void*>(weight), dtype, rows, columns),
        gk::Axis({{0, rows, n_out, 1}}), gk::Axis({{0, columns, n_in, 1}}), numbers}});
}

void replicate(void* out, const void* block, int dtype, int64_t rows, int64_t columns, double alpha, double noise_std,
               uint64_t key) {
  gk::cpu::replicate({matrix(out, dtype, rows, columns)}, {matrix(const_cast<void*>(block), dtype, rows, columns)},
                     {{0}, {1.0}, alpha, noise_std, key});
}

double mean_square(const void* data, int dtype, int64_t rows, int64_t columns) {
  double mean;
  gk::cpu::mean_square(&mean, {matrix(const_cast<void*>(data), dtype, rows, columns)}, {1.0});
  return mean;
}
}
