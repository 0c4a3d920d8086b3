// The inner loops, included once for each instruction set with GK_ISA naming it.
//
// Plain loops that compilers vectorize; only the 32 x 32 -> 64 bit product and the non-temporal store need intrinsics.
#include <cstdint>
#include <cstring>

#include "../common/normal.h"
#include "../common/philox.h"
#include "../common/rule.h"
#include "vector.h"
#if defined(GK_X86)
#include <immintrin.h>
#endif

// Before a loop whose turns do not depend on one another, where the compiler cannot see it.
#if defined(__clang__)
#define GK_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define GK_INDEPENDENT _Pragma("GCC ivdep")
#endif

// Elements of two vectors, counted over both. GCC has clang's form from version 12 on only.
#if defined(__clang__)
#define GK_SHUFFLE(Row, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define GK_SHUFFLE(Row, a, b, ...) __builtin_shuffle(a, b, Row{__VA_ARGS__})
#endif

#define GK_STRING_(x) #x
#define GK_STRING(x) GK_STRING_(x)
#ifndef GK_VECTOR_BYTES
#define GK_VECTOR_BYTES 16
#endif

namespace gk::GK_ISA {
namespace {

typedef uint64_t Wide __attribute__((vector_size(GK_VECTOR_BYTES)));
constexpr int kWide = GK_VECTOR_BYTES / 8;

// Product of the low halves of each lane; the high halves are ignored.
GK_INLINE Wide multiply_low(Wide a, uint64_t b) {
  const Wide factor = Wide{} + b;
#if defined(GK_X86) && GK_VECTOR_BYTES == 64
  return Wide(_mm512_mul_epu32(__m512i(a), __m512i(factor)));
#elif defined(GK_X86) && GK_VECTOR_BYTES == 32
  return Wide(_mm256_mul_epu32(__m256i(a), __m256i(factor)));
#elif defined(GK_X86)
  return Wide(_mm_mul_epu32(__m128i(a), __m128i(factor)));
#else
  return (a & 0xffffffffu) * factor;
#endif
}

// Quads made side by side: enough independent work to hide the latency of one.
constexpr int kQuads = 16, kBatch = 4 * kQuads;
static_assert(kBatch + 3 <= kNormalsSlack, "whole batches must fit the slack");

// All 4 * kQuads normals from quad `q` on.
void batch(float* z, uint64_t key, uint64_t field, uint64_t q) {
  // The words that make one pair of normals stay together: lanes (w0, w2) and (w1, w3).
  alignas(64) uint32_t x[2 * kQuads], y[2 * kQuads];
  Wide step;
  for (int i = 0; i < kWide; ++i) step[i] = i;
  for (int i = 0; i < kQuads; i += kWide) {
    // High halves of the lanes hold rubbish between rounds: neither the products nor the low halves of xor see them.
    Wide c0 = (Wide{} + (q + i)) + step, c1 = c0 >> 32, c2 = Wide{} + field, c3 = c2 >> 32;
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const Wide p0 = multiply_low(c0, kPhiloxM0), p1 = multiply_low(c2, kPhiloxM1);
      c0 = (p1 >> 32) ^ c1 ^ (Wide{} + k0);
      c2 = (p0 >> 32) ^ c3 ^ (Wide{} + k1);
      c1 = p1;
      c3 = p0;
      k0 += kPhiloxW0;
      k1 += kPhiloxW1;
    }
    const Wide low = Wide{} + 0xffffffffu;
    const Wide first = (c0 & low) | (c2 << 32), second = (c1 & low) | (c3 << 32);
    std::memcpy(x + 2 * i, &first, sizeof(first));
    std::memcpy(y + 2 * i, &second, sizeof(second));
  }
  for (int i = 0; i < 2 * kQuads; ++i) {
    const Pair pair = normal_pair(x[i], y[i]);
    z[2 * i] = pair.z0;
    z[2 * i + 1] = pair.z1;
  }
}

const float* normals(float* buffer, uint64_t key, uint64_t field, uint64_t e, int64_t n) {
  const int64_t lane = e % 4;
  for (int64_t done = 0; done < lane + n; done += kBatch) batch(buffer + done, key, field, (e + done) / 4);
  return buffer + lane;
}

template <class Compute, class Format>
void load(Compute* __restrict values, const void* source, int64_t stride, int64_t n) {
  const auto* s = static_cast<const typename Format::Storage*>(source);
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) values[i] = Compute(Format::load(s[i]));
  } else if (stride == 2 && sizeof(s[0]) == 2) {
    // Every second item as half of a wider one, so that whole vectors are loaded: 12.9 -> 9.6 ms for a 4096 x 4096 bf16
    // source grown x2. The last item stands alone: what follows it may not be ours to read.
    for (int64_t i = 0; i + 1 < n; ++i) {
      uint32_t word;
      std::memcpy(&word, s + 2 * i, sizeof(word));
      values[i] = Compute(Format::load(typename Format::Storage(word)));
    }
    if (n) values[n - 1] = Compute(Format::load(s[2 * (n - 1)]));
  } else if (stride == 2) {
    // A distance that the compiler knows: 21.6 -> 16.8 ms for the same in fp32.
    for (int64_t i = 0; i < n; ++i) values[i] = Compute(Format::load(s[2 * i]));
  } else {
    for (int64_t i = 0; i < n; ++i) values[i] = Compute(Format::load(s[i * stride]));
  }
}

template <class Compute, class Format>
void store(void* __restrict target, const Compute* __restrict values, int64_t n) {
  auto* t = static_cast<typename Format::Storage*>(target);
  for (int64_t i = 0; i < n; ++i) t[i] = Format::store(values[i]);
}

template <class Compute>
void divide(Compute* values, Compute divisor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = values[i] / divisor;
}

template <class Compute>
void add(Compute* values, Compute term, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = values[i] + term;
}

template <class Compute>
void multiply(Compute* values, Compute factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = factor * values[i];
}

template <class Compute>
void blend(Compute* __restrict values, const float* __restrict z, Compute keep, Compute alpha, Compute std, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = keep * values[i] + alpha * (std * Compute(z[i]));
}

template <class Compute>
void fill(Compute* __restrict values, const float* __restrict z, Compute constant, Compute std, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = constant + std * Compute(z[i]);
}

template <class Compute, class Format>
void pair(void* __restrict a, void* __restrict b, const Compute* sa, const Compute* sb, const float* z, Compute std,
          int64_t n) {
  auto* first = static_cast<typename Format::Storage*>(a);
  auto* second = static_cast<typename Format::Storage*>(b);
  GK_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const auto stored = Format::store(sa[i] + std * Compute(z[i]));
    first[i] = stored;
    second[i] = Format::store((sa[i] + sb[i]) - Compute(Format::load(stored)));
  }
}

template <class Compute, class Format>
void triangle(void* const out[3], const Compute* const s[3], const float* z1, const float* z2, Compute std, int64_t n) {
  using Storage = typename Format::Storage;
  auto *a = static_cast<Storage*>(out[0]), *b = static_cast<Storage*>(out[1]), *c = static_cast<Storage*>(out[2]);
  const Compute *sa = s[0], *sb = s[1], *sc = s[2];
  GK_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const Compute half = Compute(0.5) * Compute(z1[i]), swing = Compute(kTriangle) * Compute(z2[i]);
    a[i] = Format::store(sa[i] + std * Compute(z1[i]));
    b[i] = Format::store(sb[i] + std * (swing - half));
    c[i] = Format::store(sc[i] + std * (-half - swing));
  }
}

GK_INLINE double halve(double* lanes) {
  for (int width = kSumLanes / 2; width; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] = lanes[lane] + lanes[lane + width];
  }
  return lanes[0];
}

template <class Compute>
double square_sum(const Compute* values, Compute divisor, int64_t n) {
  double lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) {
      const double x = double(values[i + lane] / divisor);
      lanes[lane] = lanes[lane] + x * x;
    }
  }
  for (int lane = 0; i < n; ++i, ++lane) {
    const double x = double(values[i] / divisor);
    lanes[lane] = lanes[lane] + x * x;
  }
  return halve(lanes);
}

double sum(const double* values, int64_t n) {
  double lanes[kSumLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % kSumLanes] = lanes[i % kSumLanes] + values[i];
  return halve(lanes);
}

// A square of 8 x 8 items in three rounds of pairwise interleaving.
template <class Item>
GK_INLINE void transpose_square(Item* target, int64_t target_pitch, const Item* source, int64_t source_pitch) {
  typedef Item Row __attribute__((vector_size(8 * sizeof(Item))));
  Row rows[8], next[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&rows[i], source + i * source_pitch, sizeof(Row));
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      next[2 * i] = GK_SHUFFLE(Row, rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      next[2 * i + 1] = GK_SHUFFLE(Row, rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; ++i) rows[i] = next[i];
  }
  for (int i = 0; i < 8; ++i) std::memcpy(target + i * target_pitch, &rows[i], sizeof(Row));
}

template <class Item>
void transpose_items(void* __restrict target, const void* __restrict source, int64_t rows, int64_t columns,
                     int64_t pitch) {
  auto* t = static_cast<Item*>(target);
  auto* s = static_cast<const Item*>(source);
  const int64_t whole_rows = rows & ~int64_t{7}, whole_columns = columns & ~int64_t{7};
  for (int64_t i = 0; i < whole_rows; i += 8) {
    for (int64_t j = 0; j < whole_columns; j += 8) transpose_square(t + j * rows + i, rows, s + i * pitch + j, pitch);
  }
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i) t[j * rows + i] = s[i * pitch + j];
  }
}

void transpose(void* target, const void* source, int64_t rows, int64_t columns, int64_t pitch, int item) {
  const auto items = item == 2   ? transpose_items<uint16_t>
                     : item == 4 ? transpose_items<uint32_t>
                                 : transpose_items<uint64_t>;
  items(target, source, rows, columns, pitch);
}

#if defined(GK_X86)
GK_INLINE void stream_cache_line(char* target, const char* source) {
#if GK_VECTOR_BYTES == 64
  _mm512_stream_si512(reinterpret_cast<__m512i*>(target), _mm512_loadu_si512(source));
#elif GK_VECTOR_BYTES == 32
  for (int i = 0; i < 64; i += 32) {
    const auto* from = reinterpret_cast<const __m256i*>(source + i);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i), _mm256_loadu_si256(from));
  }
#else
  for (int i = 0; i < 64; i += 16) {
    const auto* from = reinterpret_cast<const __m128i*>(source + i);
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + i), _mm_loadu_si128(from));
  }
#endif
}
#endif

void stream(char* target, int64_t target_pitch, const char* source, int64_t source_pitch, int64_t lines,
            int64_t bytes) {
  for (int64_t line = 0; line < lines; ++line) {
    char* t = target + line * target_pitch;
    const char* s = source + line * source_pitch;
    int64_t i = 0;
#if defined(GK_X86)
    const int64_t head = -reinterpret_cast<intptr_t>(t) & 63;
    if (bytes >= head + 64) {
      std::memcpy(t, s, head);
      for (i = head; i + 64 <= bytes; i += 64) stream_cache_line(t + i, s + i);
    }
#endif
    std::memcpy(t + i, s + i, bytes - i);
  }
}

void fence() {
#if defined(GK_X86)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace gk::GK_ISA

#include "expand_loops.h"

namespace gk::GK_ISA {

extern const Loops kLoops;
const Loops kLoops = {
    GK_STRING(GK_ISA),
    {{load<float, Float32>, load<float, BFloat16>, load<float, Float16>, nullptr},
     {store<float, Float32>, store<float, BFloat16>, store<float, Float16>, nullptr},
     divide<float>,
     multiply<float>,
     add<float>,
     blend<float>,
     fill<float>,
     {pair<float, Float32>, pair<float, BFloat16>, pair<float, Float16>, nullptr},
     {triangle<float, Float32>, triangle<float, BFloat16>, triangle<float, Float16>, nullptr},
     square_sum<float>,
     mix<float>,
     dot<float>},
    {{load<double, Float32>, load<double, BFloat16>, load<double, Float16>, load<double, Float64>},
     {store<double, Float32>, store<double, BFloat16>, store<double, Float16>, store<double, Float64>},
     divide<double>,
     multiply<double>,
     add<double>,
     blend<double>,
     fill<double>,
     {pair<double, Float32>, pair<double, BFloat16>, pair<double, Float16>, pair<double, Float64>},
     {triangle<double, Float32>, triangle<double, BFloat16>, triangle<double, Float16>, triangle<double, Float64>},
     square_sum<double>,
     mix<double>,
     dot<double>},
    normals,
    sum,
    transpose,
    stream,
    fence,
};

}  // namespace gk::GK_ISA
