// The inner loops: runs of contiguous elements, compiled once for each instruction set, chosen at run time.
//
// `Compute` is float, or double where a float64 tensor takes part; tables are indexed by the stored dtype.
#pragma once

#include <cstdint>

#include "../common/dtype.h"
#include "../common/sum_order.h"

namespace gk {

// Rows of `dot` for which y is loaded once.
constexpr int kDotRows = 4;

template <class Compute>
struct ComputeLoops {
  // values[i] = source[i * stride]
  void (*load[kDTypes])(Compute* values, const void* source, int64_t stride, int64_t n);
  // target[i] = values[i], rounded once
  void (*store[kDTypes])(void* target, const Compute* values, int64_t n);
  // values[i] / divisor, factor * values[i], values[i] + term, in place
  void (*divide)(Compute* values, Compute divisor, int64_t n);
  void (*multiply)(Compute* values, Compute factor, int64_t n);
  void (*add)(Compute* values, Compute term, int64_t n);
  // values[i] = keep * values[i] + alpha * (std * z[i])
  void (*blend)(Compute* values, const float* z, Compute keep, Compute alpha, Compute std, int64_t n);
  // values[i] = constant + std * z[i]
  void (*fill)(Compute* values, const float* z, Compute constant, Compute std, int64_t n);
  // Two copies with opposite noise, rounded jointly: a = store(sa + std z), b = store((sa + sb) - a)
  void (*pair[kDTypes])(void* a, void* b, const Compute* sa, const Compute* sb, const float* z, Compute std, int64_t n);
  // Three copies whose noise is a triangle in the plane of two normals, rounded one by one
  void (*triangle[kDTypes])(void* const out[3], const Compute* const s[3], const float* z1, const float* z2,
                            Compute std, int64_t n);
  // Sum of (values[i] / divisor)^2 over n <= kSumBlock values, in kSumLanes lanes
  double (*square_sum)(const Compute* values, Compute divisor, int64_t n);
  // values[i] = sum over k < terms of factors[k] * x[k * pitch + i], in that order
  void (*mix)(Compute* values, const Compute* x, int64_t pitch, const Compute* factors, int64_t terms, int64_t n);
  // sums[row * step] += sum of x[row * pitch + i] * y[i], in kSumLanes lanes
  void (*dot)(double* sums, int64_t step, const Compute* x, int64_t pitch, int64_t rows, const Compute* y, int64_t n);
};

constexpr int64_t kNormalsSlack = 128;

struct Loops {
  const char* name;
  ComputeLoops<float> f32;
  ComputeLoops<double> f64;
  // Returns z inside `buffer` with z[i] = the normal of element e + i. The buffer has room for n + kNormalsSlack.
  const float* (*normals)(float* buffer, uint64_t key, uint64_t field, uint64_t e, int64_t n);
  // Sum of n <= kSumBlock values in the order of square_sum
  double (*sum)(const double* values, int64_t n);
  // target[j][i] = source[i][j] for `rows` x `columns` items of 2, 4 or 8 bytes; source rows are `pitch` items apart
  void (*transpose)(void* target, const void* source, int64_t rows, int64_t columns, int64_t pitch, int item);
  // Copy lines of `bytes`, given distances in bytes apart, past the caches; `fence` before another thread reads them
  void (*stream)(char* target, int64_t target_pitch, const char* source, int64_t source_pitch, int64_t lines,
                 int64_t bytes);
  void (*fence)();

  template <class Compute>
  const ComputeLoops<Compute>& compute() const;
};

template <>
inline const ComputeLoops<float>& Loops::compute<float>() const {
  return f32;
}
template <>
inline const ComputeLoops<double>& Loops::compute<double>() const {
  return f64;
}

// The loops in use: the widest instruction set that the machine has, or the one forced.
const Loops& loops();

// Use the loops compiled for `name` ("scalar", "avx2", "avx512"), or the machine's widest if it is null. False if this
// machine or build does not have them.
bool force_loops(const char* name);

}  // namespace gk
