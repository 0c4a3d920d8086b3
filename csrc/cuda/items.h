// Stored items of a dtype known at run time, one alone or a vector of them, and the values they stand for.
#pragma once

#include "packed.h"

namespace gk::cuda {

// An item of 2, 4 or 8 bytes, from the low end on.
GK_KERNEL uint64_t load_item(int bytes, const void* from) {
  if (bytes == 2) return load_words<2>(from).w[0];
  if (bytes == 4) return load_words<4>(from).w[0];
  const Words<8> words = load_words<8>(from);
  return uint64_t{words.w[1]} << 32 | words.w[0];
}

GK_KERNEL void store_item(int bytes, void* to, uint64_t item) {
  if (bytes == 2) {
    store_words<2>(to, {{uint16_t(item)}});
  } else if (bytes == 4) {
    store_words<4>(to, {{uint32_t(item)}});
  } else {
    store_words<8>(to, {{uint32_t(item), uint32_t(item >> 32)}});
  }
}

template <class Compute>
GK_KERNEL Compute value_of(DType dtype, uint64_t item) {
  switch (dtype) {
    case DType::kFloat32:
      return Compute(bits<float>(uint32_t(item)));
    case DType::kBFloat16:
      return Compute(BFloat16::load(uint16_t(item)));
    case DType::kFloat16:
      return Compute(unpack_half(uint16_t(item)));
    default:
      return Compute(bits<double>(item));
  }
}

// Rounded once.
template <class Compute>
GK_KERNEL uint64_t item_of(DType dtype, Compute x) {
  switch (dtype) {
    case DType::kFloat32:
      return bits<uint32_t>(Float32::store(x));
    case DType::kBFloat16:
      return pack_one<BFloat16>(x);
    case DType::kFloat16:
      return pack_one<Float16>(x);
    default:
      return bits<uint64_t>(double(x));
  }
}

// A vector of items whose size is known; `dtype` tells the two of 2 bytes apart.
template <int Item, int Count>
GK_KERNEL void values_of(float (&values)[Count], const Words<Item * Count>& words, DType dtype) {
  if constexpr (Item == 4) {
    unpack<Float32>(values, words);
  } else if (dtype == DType::kBFloat16) {
    unpack<BFloat16>(values, words);
  } else {
    unpack<Float16>(values, words);
  }
}

template <int Item, int Count>
GK_KERNEL Words<Item * Count> items_of(const float (&values)[Count], DType dtype) {
  if constexpr (Item == 4) {
    return pack<Float32>(values);
  } else {
    return dtype == DType::kBFloat16 ? pack<BFloat16>(values) : pack<Float16>(values);
  }
}

}  // namespace gk::cuda
