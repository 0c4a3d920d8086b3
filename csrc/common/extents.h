// A number for each axis of a tensor. Few axes take no memory of their own: in a list of small tensors the allocations
// of two vectors for each would cost as much as the work.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace gk {

class Extents {
 public:
  Extents() = default;
  Extents(std::initializer_list<int64_t> values) : Extents(values.begin(), values.end()) {}
  template <class Iterator>
  Extents(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t* begin() { return size_ > kFew ? many_.data() : few_; }
  int64_t* end() { return begin() + size_; }
  const int64_t* begin() const { return size_ > kFew ? many_.data() : few_; }
  const int64_t* end() const { return begin() + size_; }
  int64_t& operator[](size_t axis) { return begin()[axis]; }
  int64_t operator[](size_t axis) const { return begin()[axis]; }
  int64_t& back() { return begin()[size_ - 1]; }
  int64_t back() const { return begin()[size_ - 1]; }
  void push_back(int64_t value) {
    if (size_ == kFew) many_.assign(few_, few_ + kFew);
    if (size_ >= kFew) {
      many_.push_back(value);
    } else {
      few_[size_] = value;
    }
    ++size_;
  }
  bool operator==(const Extents& other) const {
    return size_ == other.size_ && std::equal(begin(), end(), other.begin());
  }
  bool operator!=(const Extents& other) const { return !(*this == other); }

 private:
  static constexpr size_t kFew = 4;

  size_t size_ = 0;
  int64_t few_[kFew] = {};
  std::vector<int64_t> many_;
};

}  // namespace gk
