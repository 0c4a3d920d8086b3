// The CUDA kernels; and the same code with every thread of a GPU played by the CPU, for tests on machines without one.
#pragma once

#include "../common/jobs.h"

namespace gk::cuda {

void tile(const std::vector<TileJob>& jobs);
void replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);
void mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors);
void normal(const View& out, uint64_t key, uint64_t field, uint64_t start);

constexpr Kernels kKernels{tile, replicate, mean_square, normal};

}  // namespace gk::cuda

namespace gk::emulated {

void tile(const std::vector<TileJob>& jobs);
void replicate(const std::vector<View>& outs, const std::vector<View>& blocks, const ReplicateNumbers& numbers);
void mean_square(double* means, const std::vector<View>& views, const std::vector<double>& divisors);
void normal(const View& out, uint64_t key, uint64_t field, uint64_t start);

constexpr Kernels kKernels{tile, replicate, mean_square, normal};

}  // namespace gk::emulated
