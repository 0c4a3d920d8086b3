// One axis of a rule: segments with the places where they begin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "index.h"

namespace gk {

// A contiguous range of source positions (visits) inside one segment: `count` source (or new) indices from the
// segment's `offset`-th on. A visit is one source index of one segment: it is read once and written to all its copies.
struct Part {
  Segment segment;
  int64_t first_target, offset, count;

  int64_t source(int64_t i) const { return segment.start + offset + i; }
  int64_t target(int64_t i, int64_t copy) const { return first_target + segment.target(offset + i, copy); }

  // Calls run(i, target, n) for the ranges of visits whose copies lie side by side.
  template <class Run>
  void for_each_run(int64_t copy, const Run& run) const {
    const int64_t group = segment.group_length();
    for (int64_t i = 0; i < count;) {
      const int64_t n = std::min(group - (offset + i) % group, count - i);
      run(i, target(i, copy), n);
      i += n;
    }
  }
  bool in_one_group() const { return offset / segment.group_length() == (offset + count - 1) / segment.group_length(); }
};

class Axis {
 public:
  explicit Axis(std::vector<Segment> segments) : segments_(std::move(segments)) {
    first_visit_.reserve(segments_.size());
    first_target_.reserve(segments_.size());
    for (const Segment& segment : segments_) {
      first_visit_.push_back(visits_);
      first_target_.push_back(size_);
      visits_ += segment.length;
      size_ += segment.size();
      if (!segment.is_new()) copies_ = std::max(copies_, segment.copies);
    }
  }

  int64_t visits() const { return visits_; }
  int64_t size() const { return size_; }
  int64_t copies() const { return copies_; }
  const std::vector<Segment>& segments() const { return segments_; }

  // Calls work(part) for the visits [from, to).
  template <class Work>
  void for_each_part(int64_t from, int64_t to, const Work& work) const {
    size_t i = std::upper_bound(first_visit_.begin(), first_visit_.end(), from) - first_visit_.begin() - 1;
    for (; i < segments_.size() && first_visit_[i] < to; ++i) {
      const int64_t begin = std::max<int64_t>(from - first_visit_[i], 0);
      const int64_t end = std::min(to - first_visit_[i], segments_[i].length);
      if (begin < end) work(Part{segments_[i], first_target_[i], begin, end - begin});
    }
  }

 private:
  std::vector<Segment> segments_;
  std::vector<int64_t> first_visit_, first_target_;
  int64_t visits_ = 0, size_ = 0, copies_ = 1;
};

}  // namespace gk
