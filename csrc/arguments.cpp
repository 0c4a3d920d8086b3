#include "arguments.h"

#include <algorithm>
#include <cmath>

namespace gk {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

DType dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::Double:
      return DType::kFloat64;
    default:
      refuse("unsupported dtype; expected float32, bfloat16, float16 or float64");
  }
}

// `target_size` is what is written: a segment longer than that would wrap around in 64 bits before it is compared.
void check_segments(const std::vector<Segment>& segments, int64_t source_size, int64_t target_size, const char* axis) {
  int64_t left = target_size;
  for (const Segment& s : segments) {
    const bool fresh = s.start == -1 && s.copies == 1 && s.groups == 1;
    const bool inside = s.start >= 0 && s.length <= source_size && s.start <= source_size - s.length;
    const bool whole = s.length >= 0 && s.copies >= 1 && s.groups >= 1 && s.length % s.groups == 0;
    if (!whole || (!fresh && !inside)) {
      refuse(axis, " segment (start ", s.start, ", length ", s.length, ", copies ", s.copies, ", groups ", s.groups,
             ") does not fit a source axis of ", source_size);
    }
    if (s.length && s.copies > left / s.length) refuse("out has ", target_size, " ", axis, ", the rule writes more");
    left -= s.length * s.copies;
  }
}

void check_numbers(const RuleNumbers& numbers, const std::vector<Segment>& cols) {
  if (numbers.divisor == 0 || std::isnan(numbers.divisor)) refuse("divisor is ", numbers.divisor);
  for (double std : {numbers.noise_std, numbers.new_column.std, numbers.new_row.std, numbers.new_both.std}) {
    if (!(std >= 0 && std::isfinite(std))) refuse("a standard deviation is ", std, "; expected a finite number >= 0");
  }
  if (numbers.noise_std == 0 && !numbers.diagonal) return;
  int64_t copies = 0;
  for (const Segment& s : cols) {
    if (s.is_new()) continue;
    if (copies && s.copies != copies) refuse("noise and the diagonal structure need one number of column copies");
    copies = s.copies;
  }
}

// Reads the packed numbers of rules one after the other.
class Reader {
 public:
  explicit Reader(const std::vector<int64_t>& numbers) : numbers_(numbers) {}

  int64_t next() {
    if (at_ == numbers_.size()) refuse("layout ends in the middle of a rule");
    return numbers_[at_++];
  }
  std::vector<Segment> segments() {
    const int64_t count = next();
    if (count < 0) refuse("layout gives ", count, " segments");
    std::vector<Segment> result;
    result.reserve(std::min<int64_t>(count, numbers_.size() / 4));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t start = next(), length = next(), copies = next();
      result.push_back({start, length, copies, next()});
    }
    return result;
  }
  bool done() const { return at_ == numbers_.size(); }

 private:
  const std::vector<int64_t>& numbers_;
  size_t at_ = 0;
};

}  // namespace

View view_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  return {static_cast<char*>(tensor.data_ptr()),
          dtype_of(tensor.scalar_type()),
          {sizes.begin(), sizes.end()},
          {strides.begin(), strides.end()}};
}

std::vector<View> views_of(const std::vector<Tensor>& tensors) {
  std::vector<View> views;
  views.reserve(tensors.size());
  for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
  return views;
}

View matrix_of(const Tensor& tensor) {
  View view = view_of(tensor);
  if (view.sizes.size() != 1 && view.sizes.size() != 2)
    refuse("expected a matrix or a vector, got ", view.sizes.size(), " axes");
  if (view.sizes.size() == 1) {
    view.strides = {view.sizes[0], view.strides[0]};
    view.sizes = {1, view.sizes[0]};
  }
  return view;
}

void check_memory(const std::vector<View>& outs, const std::vector<View>& inputs) {
  struct Entry {
    Reach reach;
    const View* view;
    bool is_out;
  };
  std::vector<Entry> entries;
  entries.reserve(outs.size() + inputs.size());
  for (const View& out : outs) {
    if (self_overlapping(out)) refuse("entries of out share memory; copy it first");
    if (out.numel()) entries.push_back({reach(out), &out, true});
  }
  for (const View& input : inputs) {
    if (input.numel()) entries.push_back({reach(input), &input, false});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.reach.first < b.reach.first; });
  for (size_t i = 0; i < entries.size(); ++i) {
    for (size_t j = i + 1; j < entries.size() && entries[j].reach.first < entries[i].reach.last; ++j) {
      if (!entries[i].is_out && !entries[j].is_out) continue;
      if (!overlapping(*entries[i].view, *entries[j].view)) continue;
      refuse(
          entries[i].is_out && entries[j].is_out ? "two outputs overlap in memory" : "out overlaps an input in memory",
          "; write into a tensor of its own");
    }
  }
}

void check_pairs(const std::vector<View>& left, const std::vector<View>& right, const View& table, const char* name) {
  if (left.empty() || right.empty()) refuse("no tensors; expected at least one of each");
  for (const std::vector<View>* views : {&left, &right}) {
    for (const View& view : *views) {
      if (view.sizes != left[0].sizes) refuse("tensors differ in shape; expected one shape");
    }
  }
  if (table.sizes != Extents{int64_t(left.size()), int64_t(right.size())}) {
    refuse(name, " does not have shape [", left.size(), ", ", right.size(), "]");
  }
}

TileJob tile_job(View out, View weight, std::vector<Segment> rows, std::vector<Segment> cols,
                 const RuleNumbers& numbers) {
  check_segments(rows, weight.sizes[0], out.sizes[0], "rows");
  check_segments(cols, weight.sizes[1], out.sizes[1], "cols");
  TileJob job{std::move(out), std::move(weight), Axis(std::move(rows)), Axis(std::move(cols)), numbers};
  if (job.rows.size() != job.out.sizes[0] || job.cols.size() != job.out.sizes[1]) {
    refuse("out has shape [", job.out.sizes[0], ", ", job.out.sizes[1], "], the rule writes [", job.rows.size(), ", ",
           job.cols.size(), "]");
  }
  return job;
}

std::vector<TileJob> tile_jobs(std::vector<View> outs, std::vector<View> weights, const std::vector<int64_t>& layout,
                               const std::vector<double>& scalars) {
  constexpr size_t kScalars = 9;
  if (weights.size() != outs.size() || scalars.size() != kScalars * outs.size()) {
    refuse(outs.size(), " outs, ", weights.size(), " weights and ", scalars.size(),
           " scalars; expected as many weights and ", kScalars, " scalars for each");
  }
  Reader reader(layout);
  std::vector<TileJob> jobs;
  jobs.reserve(outs.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    const double* s = scalars.data() + kScalars * i;
    std::vector<Segment> rows = reader.segments(), cols = reader.segments();
    RuleNumbers numbers{s[0], s[1], s[2], nullptr, 0, {s[3], s[4]}, {s[5], s[6]}, {s[7], s[8]}};
    numbers.diagonal = reader.next() != 0;
    numbers.key = uint64_t(reader.next());
    check_numbers(numbers, cols);
    jobs.push_back(tile_job(std::move(outs[i]), std::move(weights[i]), std::move(rows), std::move(cols), numbers));
  }
  if (!reader.done()) refuse("layout has numbers left over after the last rule");
  return jobs;
}

}  // namespace gk
