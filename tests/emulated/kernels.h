// The CUDA kernels with every thread of a GPU played by the CPU.
#pragma once

#include "common/jobs.h"

namespace gk::emulated {

void tile(const std::vector<TileJob>& jobs);
void replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);
void mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors);
void normal(const View& out, uint64_t key, uint64_t field, uint64_t start);
void mix(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients);
void inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right);

constexpr Kernels kKernels{tile, replicate, mean_square, normal, mix, inner_products};

}  // namespace gk::emulated
