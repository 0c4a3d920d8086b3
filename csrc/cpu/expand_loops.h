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

template <int kRows, class Compute>
void dot_rows(double* sums, int64_t step, const Compute* x, int64_t pitch, const Compute* y, int64_t n) {
  typedef Compute Vector __attribute__((vector_size(GK_VECTOR_BYTES)));
  constexpr int kLanes = GK_VECTOR_BYTES / sizeof(Compute);
  Compute lanes[kRows][kSumLanes];
  const int64_t whole = n / kSumLanes * kSumLanes;
  for (int lane = 0; lane < kSumLanes; lane += kLanes) {
    Vector totals[kRows] = {}, left, right;
    for (int64_t i = lane; i < whole; i += kSumLanes) {
      std::memcpy(&right, y + i, sizeof(right));
      for (int row = 0; row < kRows; ++row) {
        std::memcpy(&left, x + row * pitch + i, sizeof(left));
        totals[row] = totals[row] + left * right;
      }
    }
    for (int row = 0; row < kRows; ++row) std::memcpy(lanes[row] + lane, &totals[row], sizeof(totals[row]));
  }
  for (int row = 0; row < kRows; ++row) {
    const Compute* values = x + row * pitch + whole;
    for (int64_t i = 0; i < n - whole; ++i) lanes[row][i] = lanes[row][i] + values[i] * y[whole + i];
    double wide[kSumLanes];
    for (int lane = 0; lane < kSumLanes; ++lane) wide[lane] = double(lanes[row][lane]);
    sums[row * step] += halve(wide);
  }
}

template <class Compute>
void dot(double* sums, int64_t step, const Compute* x, int64_t pitch, int64_t rows, const Compute* y, int64_t n) {
  for (; rows >= kDotRows; rows -= kDotRows, sums += kDotRows * step, x += kDotRows * pitch) {
    dot_rows<kDotRows>(sums, step, x, pitch, y, n);
  }
  for (; rows; --rows, sums += step, x += pitch) dot_rows<1>(sums, step, x, pitch, y, n);
}

}  // namespace
}  // namespace gk::GK_ISA
