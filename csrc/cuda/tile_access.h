// How the kernels of `tile` read and write: vectors of 16 bytes of the target, or single elements.
#pragma once

#include <type_traits>

#include "items.h"

namespace gk::cuda {

// As many items as make 16 bytes of the target, of a source of 2- or 4-byte items; arithmetic in fp32.
template <int kSource, class Target>
struct Vectors {
  using Compute = float;
  static constexpr int kTarget = sizeof(typename Target::Storage), kWidth = 16 / kTarget;
  static constexpr bool kMovable = kSource == kTarget, kHalvable = kMovable && kSource == 2;
  static constexpr bool kListed = false;  // columns are never listed
  using Raw = Words<kSource * kWidth>;
  using Stored = Words<16>;
  using Values = float[kWidth];

  static GK_KERNEL Raw load(const char* from, DType) { return load_words<kSource * kWidth>(from); }
  static GK_KERNEL void store(char* to, const Stored& stored, DType) { store_words(to, stored); }
  static GK_KERNEL Stored moved(const Raw& raw) {
    if constexpr (kMovable) {
      return raw;
    } else {
      return {};
    }
  }
  static GK_KERNEL void read(Values& values, const Raw& raw, DType dtype) { values_of<kSource>(values, raw, dtype); }
  static GK_KERNEL Stored round(const Values& values, DType) { return pack<Target>(values); }
  static GK_KERNEL void read_back(Values& values, const Stored& stored, DType) { unpack<Target>(values, stored); }
  // What the source has and `stored` has not, in items of 16 bits.
  static GK_KERNEL Stored rest(const Raw& raw, const Stored& stored) {
    Stored result{};
    if constexpr (kHalvable) {
      GK_UNROLL
      for (int i = 0; i < 4; ++i) result.w[i] = subtract_two<Target>(raw.w[i], stored.w[i]);
    }
    return result;
  }
};

// One element of any dtype (fp64 with `double` only), its bits in the low end of a word; where the size of the target's
// items is not known beforehand, `kTarget` is 0.
template <class ComputeType, int kTarget, bool kListedColumns>
struct Single {
  using Compute = ComputeType;
  static constexpr bool kWide = std::is_same_v<Compute, double>;
  static constexpr int kWidth = 1;
  static constexpr bool kMovable = true, kHalvable = false, kListed = kListedColumns;
  using Raw = std::conditional_t<kWide, uint64_t, uint32_t>;
  using Stored = Raw;
  using Values = Compute[1];

  static GK_KERNEL Raw load(const char* from, DType dtype) {
    if constexpr (kWide) return load_item(element_size(dtype), from);
    return dtype == DType::kFloat32 ? load_words<4>(from).w[0] : load_words<2>(from).w[0];
  }
  static GK_KERNEL void store(char* to, Stored stored, DType dtype) {
    store_item(kTarget ? kTarget : element_size(dtype), to, stored);
  }
  static GK_KERNEL Stored moved(Raw raw) { return raw; }
  static GK_KERNEL void read(Values& values, Raw raw, DType dtype) { values[0] = value_of<Compute>(dtype, raw); }
  static GK_KERNEL Stored round(const Values& values, DType dtype) {
    if constexpr (kTarget == 4) return bits<uint32_t>(values[0]);
    return Raw(item_of(dtype, values[0]));
  }
  static GK_KERNEL void read_back(Values& values, Stored stored, DType dtype) { read(values, stored, dtype); }
  static GK_KERNEL Stored rest(Raw, Stored) { return {}; }
};

// Any element; one of a piece without listed columns whose target has items of a known size.
template <class Compute>
using AnySingle = Single<Compute, 0, true>;
template <int kTarget>
using QuickSingle = Single<float, kTarget, false>;

}  // namespace gk::cuda
