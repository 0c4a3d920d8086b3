// The inner loops of `expand`, included by vector_loops.h once for each instruction set.

namespace gk::GK_ISA {
namespace {

template <class Compute>
void mix(Compute* __restrict values, const Compute* __restrict x, int64_t pitch, const Compute* factors, int64_t terms,
         int64_t n) {
  // Sums stay in registers while the terms go by.
  typedef Compute Sums __attribute__((vector_size(GK_VECTOR_BYTES)));
  constexpr int kVectors = 4, kLanes = GK_VECTOR_BYTES / sizeof(Compute), kBlock = kVectors * kLanes;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    Sums sums[kVectors], term;
    for (int64_t k = 0; k < terms; ++k) {
      for (int v = 0; v < kVectors; ++v) {
        std::memcpy(&term, x + k * pitch + i + v * kLanes, sizeof(term));
        sums[v] = k ? sums[v] + factors[k] * term : factors[k] * term;
      }
    }
    for (int v = 0; v < kVectors; ++v) std::memcpy(values + i + v * kLanes, &sums[v], sizeof(sums[v]));
  }
  for (; i < n; ++i) {
    values[i] = factors[0] * x[i];
    for (int64_t k = 1; k < terms; ++k) values[i] = values[i] + factors[k] * x[k * pitch + i];
  }
}

template <class Compute>
double dot(const Compute* x, const Compute* y, int64_t n) {
  Compute lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) lanes[lane] = lanes[lane] + x[i + lane] * y[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) lanes[lane] = lanes[lane] + x[i] * y[i];
  double wide[kSumLanes];
  for (int lane = 0; lane < kSumLanes; ++lane) wide[lane] = double(lanes[lane]);
  return halve(wide);
}

}  // namespace
}  // namespace gk::GK_ISA
