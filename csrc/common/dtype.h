// Stored floating-point formats: exact loads, stores rounded once to nearest even, NaN kept.
//
// Conversions are integer arithmetic without branches, so that loops over them vectorize and give the same bits
// everywhere.
#pragma once

#include <cstdint>

#include "macros.h"

namespace gk {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kFloat64 };
constexpr int kDTypes = 4;

// Rounded to odd: toward zero, the last bit set if anything was lost. A second rounding to fewer bits is then correct.
GK_INLINE float odd_float(double x) {
  const float near = float(x);
  uint32_t b = bits<uint32_t>(near);
  const uint64_t wide = bits<uint64_t>(double(near)) & ~(uint64_t{1} << 63);
  const uint64_t exact = bits<uint64_t>(x) & ~(uint64_t{1} << 63);
  const bool number = exact <= uint64_t{0x7ff} << 52;
  b -= number & (wide > exact);
  return bits<float>(b | uint32_t(number & (wide != exact)));
}

struct Float32 {
  using Storage = float;
  static GK_INLINE float load(Storage s) { return s; }
  static GK_INLINE Storage store(float x) { return x; }
  static GK_INLINE Storage store(double x) { return float(x); }
};

struct Float64 {
  using Storage = double;
  static GK_INLINE double load(Storage s) { return s; }
  static GK_INLINE Storage store(double x) { return x; }
};

struct BFloat16 {
  using Storage = uint16_t;
  static GK_INLINE float load(Storage s) { return bits<float>(uint32_t{s} << 16); }
  static GK_INLINE Storage store(float x) {
    const uint32_t b = bits<uint32_t>(x);
    const uint32_t rounded = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
    const uint32_t nan = (b >> 16) | 0x40u;
    return Storage((b & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
  }
  static GK_INLINE Storage store(double x) { return store(odd_float(x)); }
};

struct Float16 {
  using Storage = uint16_t;
  static GK_INLINE float load(Storage s) {
    const uint32_t magnitude = s & 0x7fffu, sign = uint32_t(s & 0x8000u) << 16;
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    const uint32_t special = (magnitude << 13) | 0x7f800000u | (magnitude > 0x7c00u ? 0x400000u : 0u);
    const uint32_t subnormal = bits<uint32_t>(float(int32_t(magnitude)) * 0x1p-24f);
    const uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
    return bits<float>((magnitude >= 0x7c00u ? special : finite) | sign);
  }
  static GK_INLINE Storage store(float x) {
    const uint32_t b = bits<uint32_t>(x), magnitude = b & 0x7fffffffu, sign = (b >> 16) & 0x8000u;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 1/2 puts the last place of a half's subnormals at the last place of a float.
    const uint32_t small = magnitude < 0x38800000u ? magnitude : 0u;
    const uint32_t subnormal = bits<uint32_t>(bits<float>(small) + 0.5f) - 0x3f000000u;
    const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    const uint32_t special = magnitude > 0x7f800000u ? nan : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    return Storage((magnitude >= 0x47800000u ? special : finite) | sign);
  }
  static GK_INLINE Storage store(double x) { return store(odd_float(x)); }
};

// The same with the format known only at run time.
template <class Compute>
GK_INLINE Compute load_as(DType dtype, const void* from) {
  switch (dtype) {
    case DType::kFloat32:
      return Compute(Float32::load(*static_cast<const float*>(from)));
    case DType::kBFloat16:
      return Compute(BFloat16::load(*static_cast<const uint16_t*>(from)));
    case DType::kFloat16:
      return Compute(Float16::load(*static_cast<const uint16_t*>(from)));
    default:
      return Compute(Float64::load(*static_cast<const double*>(from)));
  }
}

template <class Compute>
GK_INLINE void store_as(DType dtype, void* to, Compute x) {
  switch (dtype) {
    case DType::kFloat32:
      *static_cast<float*>(to) = Float32::store(x);
      return;
    case DType::kBFloat16:
      *static_cast<uint16_t*>(to) = BFloat16::store(x);
      return;
    case DType::kFloat16:
      *static_cast<uint16_t*>(to) = Float16::store(x);
      return;
    default:
      *static_cast<double*>(to) = Float64::store(double(x));
  }
}

GK_INLINE int element_size(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

}  // namespace gk
