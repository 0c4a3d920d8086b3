#include "tile_pieces.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "../common/refusal.h"

namespace gk::cuda {
namespace {

Divisor divisor(int64_t value) {
  uint32_t shift = 0;
  while ((int64_t{1} << shift) < value) ++shift;
  const uint64_t power = uint64_t{1} << (31 + shift);
  return {uint32_t(value), uint32_t((power + value - 1) / value), shift};
}

// A range of an axis, in elements, as Span describes it. In a fill each target index is a visit, and its own source.
struct Stretch {
  int64_t source, target, count, group, source_jump, target_jump, copies, pitch;
  int64_t first_visit = -1;

  int64_t source_of(int64_t i) const { return source + i / group * source_jump + i % group; }
  int64_t target_of(int64_t i) const { return target + i / group * target_jump + i % group; }
};

// Copies from which a small source's copies become visits of their own, each reading the source again: one thread after
// the other would write them all.
constexpr int64_t kManyCopies = 64, kSmallSource = 1 << 20;

std::vector<Stretch> source_stretches(const Axis& axis, bool spread_copies) {
  std::vector<Stretch> result;
  int64_t target = 0;
  for (const Segment& s : axis.segments()) {
    const int64_t group = s.group_length();
    if (spread_copies && s.groups == 1 && s.copies > kManyCopies && s.length) {
      result.push_back({s.start, target, s.size(), group, 0, group, 1, 0});
    } else if (!s.is_new() && s.length) {
      result.push_back({s.start, target, s.length, group, group, group * s.copies, s.copies, group});
    }
    target += s.size();
  }
  return result;
}

// The target indices that are new, or those that are not.
std::vector<Stretch> target_stretches(const Axis& axis, bool fresh) {
  std::vector<Stretch> result;
  int64_t target = 0;
  for (const Segment& s : axis.segments()) {
    if (s.is_new() == fresh && s.size()) {
      if (result.empty() || result.back().target + result.back().count != target) {
        result.push_back({target, target, 0, 0, 0, 0, 1, 0});
      }
      result.back().count += s.size();
      result.back().group += s.size();
    }
    target += s.size();
  }
  return result;
}

// Many short stretches, a general gather, become one stretch whose visits are listed: as pieces of their own they would
// leave most lanes idle.
constexpr size_t kFewStretches = 16;
constexpr int64_t kShort = 64;

std::vector<Stretch> gathered(std::vector<Stretch> stretches, std::vector<Visit>& visits) {
  int64_t count = 0, copies = 1;
  for (const Stretch& s : stretches) {
    count += s.count;
    copies = std::max(copies, s.copies);
  }
  if (stretches.size() <= kFewStretches || count >= kShort * int64_t(stretches.size())) return stretches;
  const auto first = int64_t(visits.size());
  int64_t follows = -1;
  for (const Stretch& s : stretches) {
    for (int64_t i = 0; i < s.count; ++i) {
      const int64_t source = s.source_of(i);
      visits.push_back({source, s.target_of(i), s.pitch, uint32_t(s.copies), source != follows});
      follows = source + 1;
    }
  }
  return {{0, 0, count, count, 0, 0, copies, 0, first}};
}

// The stretch in parts of at most `limit` visits: whole groups, or inside one.
std::vector<Stretch> parts(const Stretch& stretch, int64_t limit) {
  std::vector<Stretch> result;
  for (int64_t i = 0; i < stretch.count;) {
    Stretch part = stretch;
    part.count = std::min(limit, stretch.count - i);
    if (stretch.first_visit >= 0) {
      part.first_visit += i;
    } else {
      if (part.count < stretch.group) {
        part.count = std::min(part.count, stretch.group - i % stretch.group);
      } else {
        part.count -= part.count % stretch.group;
      }
      part.source = stretch.source_of(i);
      part.target = stretch.target_of(i);
    }
    part.group = std::min(part.count, stretch.group);
    i += part.count;
    result.push_back(part);
  }
  return result;
}

bool fits(int64_t number) { return number == uint32_t(number); }

// How far strides, in bytes, let a part of the stretch reach.
int64_t reach(const Stretch& s, int64_t source_stride, int64_t target_stride, int64_t limit) {
  if (s.first_visit >= 0) return limit;
  if (!fits(source_stride) || !fits(target_stride)) return 1;
  const bool jumps = fits(s.source_jump * source_stride) && fits(s.target_jump * target_stride);
  return jumps ? limit : std::min(limit, s.group);
}

Span span(const Stretch& s, int64_t source_stride, int64_t target_stride, int64_t width) {
  if (s.copies > std::numeric_limits<int32_t>::max()) {
    throw Refusal(std::to_string(s.copies) + " copies of one axis; the CUDA kernels make up to 2^31 - 1");
  }
  return {uint32_t(s.count / width),     uint32_t(s.copies),      divisor(s.group / width),
          source_stride * width,         target_stride * width,   s.source_jump * source_stride,
          s.target_jump * target_stride, s.pitch * target_stride, s.first_visit};
}

Number number(double value, bool wide) {
  return {wide ? bits<uint64_t>(value) : uint64_t{bits<uint32_t>(float(value))}};
}

View transposed(const View& view) {
  return {view.data, view.dtype, {view.sizes[1], view.sizes[0]}, {view.strides[1], view.strides[0]}};
}

bool runs_down(const View& view) { return view.strides[0] < view.strides[1] && view.sizes[0] > 1; }

class Cutter {
 public:
  Cutter(const TileJob& job, int64_t limit, Pieces& pieces)
      : job_(job), numbers_(job.numbers), limit_(limit), pieces_(pieces) {}

  void run() {
    const bool small = job_.rows.visits() <= kSmallSource / std::max<int64_t>(1, job_.cols.visits());
    const bool spread = small && !job_.takes_noise() && !numbers_.diagonal;
    add(source_stretches(job_.rows, spread), source_stretches(job_.cols, spread), nullptr, kWidthField,
        job_.takes_noise());
    const auto quadrant = [&](bool new_row, bool new_column, const Fill& fill, uint64_t field) {
      add(target_stretches(job_.rows, new_row), target_stretches(job_.cols, new_column), &fill, field, fill.std != 0);
    };
    quadrant(false, true, numbers_.new_column, kNewColumnField);
    quadrant(true, false, numbers_.new_row, kNewRowField);
    quadrant(true, true, numbers_.new_both, kNewBothField);
  }

 private:
  void add(std::vector<Stretch> rows, std::vector<Stretch> cols, const Fill* fill, uint64_t field, bool drawn) {
    if (rows.empty() || cols.empty()) return;
    out_ = job_.out;
    weight_ = job_.weight;
    rows = gathered(std::move(rows), pieces_.visits);
    cols = gathered(std::move(cols), pieces_.visits);
    // Normals run along rows; without them the axes may change places so that writes run along memory.
    swapped_ = !drawn && runs_down(out_);
    if (swapped_) {
      out_ = transposed(out_);
      weight_ = transposed(weight_);
      std::swap(rows, cols);
    }
    const auto all_parts = [&](const Stretch& s, size_t axis, int64_t limit) {
      const int64_t source_stride = fill ? 0 : weight_.strides[axis] * weight_.item();
      return parts(s, reach(s, source_stride, out_.strides[axis] * out_.item(), limit));
    };
    for (const Stretch& c : cols) {
      for (const Stretch& column_part : all_parts(c, 1, limit_)) {
        for (const Stretch& r : rows) {
          for (const Stretch& row_part : all_parts(r, 0, std::max<int64_t>(1, limit_ / column_part.count))) {
            add(row_part, column_part, fill, field, drawn && (fill || column_part.copies > 1));
          }
        }
      }
    }
  }

  void add(const Stretch& rows, const Stretch& cols, const Fill* fill, uint64_t field, bool drawn) {
    // Fills have no source, and join the launch of the copies.
    const DType source_dtype = weight_.dtype;
    const bool wide = computes_in_double(weight_.dtype, out_.dtype);
    const int64_t elements = fill ? out_.sizes[1] : weight_.sizes[1];
    const int width =
        wide || (drawn && (elements % 4 || cols.source % 4)) ? 1 : vector_width(rows, cols, fill != nullptr);
    Piece piece{};
    if (!fill) piece.source = weight_.at(rows.source * weight_.strides[0] + cols.source * weight_.strides[1]);
    piece.target = out_.at(rows.target * out_.strides[0] + cols.target * out_.strides[1]);
    piece.rows = span(rows, weight_.strides[0] * weight_.item(), out_.strides[0] * out_.item(), 1);
    piece.cols = span(cols, weight_.strides[1] * weight_.item(), out_.strides[1] * out_.item(), width);
    piece.key = KeySchedule(numbers_.key);
    piece.field = field;
    piece.pair_elements = elements;
    piece.row_elements = fill ? elements : (job_.cols.copies() + 1) / 2 * elements;
    piece.copy_elements = rows.pitch * piece.row_elements;
    piece.origin = uint64_t(rows.target) * uint64_t(piece.row_elements) + uint64_t(cols.source);
    piece.source_dtype = source_dtype;
    piece.target_dtype = out_.dtype;
    piece.diagonal = !fill && numbers_.diagonal;
    if (piece.diagonal) piece.column_copies = divisor(job_.cols.copies());
    piece.swapped = swapped_;
    if (fill) {
      piece.constant = number(fill->constant, wide);
      piece.std = number(fill->std, wide);
    } else {
      scale(piece, wide);
      piece.shift = number(numbers_.shift, wide);
      piece.shifts = numbers_.shift != 0;
      piece.std = numbers_.square ? number(numbers_.snr, true) : number(numbers_.noise_std, wide);
      piece.square = numbers_.square;
      const bool unshifted = numbers_.shift == 0 && source_dtype == out_.dtype;
      piece.moved = unshifted && numbers_.divisor == 1;
      piece.halved = unshifted && numbers_.divisor == 2 && out_.item() == 2 && !numbers_.diagonal;
    }
    if (drawn && runs_down(out_)) {
      piece.order = Order::kDown;
    } else if (!fill && width == 1 && runs_down(weight_)) {
      piece.order = Order::kTall;
    } else if (piece.cols.count < kNarrow) {
      piece.order = Order::kFlat;
    }
    const bool quick = !drawn && cols.first_visit < 0;
    const Taken taken = width > 1 ? Taken::kVector
                        : wide    ? Taken::kWideElement
                        : !quick  ? Taken::kElement
                                  : (out_.item() == 2 ? Taken::kTwoBytes : Taken::kFourBytes);
    push(piece, {drawn, taken, element_size(source_dtype), out_.dtype});
  }

  // By a power of two the product with the inverse is the quotient, to the bit, and much quicker.
  void scale(Piece& piece, bool wide) const {
    const double divisor = wide ? numbers_.divisor : double(float(numbers_.divisor));
    int exponent;
    if (divisor == 1) return;
    const bool power = std::abs(std::frexp(divisor, &exponent)) == 0.5 && std::abs(exponent) < 100;
    piece.scale = power ? Scale::kMultiply : Scale::kDivide;
    piece.factor = number(power ? 1 / divisor : divisor, wide);
  }

  // How many elements go at once: 16 bytes of the target where all that is read and written lies on such bounds, or 1.
  int vector_width(const Stretch& rows, const Stretch& cols, bool fill) const {
    const int width = 16 / out_.item();
    const auto whole = [width](int64_t n) { return n % width == 0; };
    const bool closed = cols.first_visit < 0 && whole(cols.count) && whole(cols.group);
    if (!closed || (cols.copies > 1 && !whole(cols.pitch))) return 1;
    const bool one_line = rows.count == 1 && rows.copies == 1;
    const auto aligned = [&](const View& view, int64_t row, int64_t column, int bytes) {
      const auto address = reinterpret_cast<uintptr_t>(view.at(row * view.strides[0] + column * view.strides[1]));
      return view.strides[1] == 1 && address % bytes == 0 && (one_line || view.strides[0] * view.item() % bytes == 0);
    };
    if (!aligned(out_, rows.target, cols.target, 16)) return 1;
    if (!fill && !aligned(weight_, rows.source, cols.source, std::min(16, width * weight_.item()))) return 1;
    return width;
  }

  void push(Piece& piece, const TileKernelId& kernel) {
    const auto ceil = [](int64_t n, int64_t step) { return (n + step - 1) / step; };
    const int64_t rows = piece.rows.count, cols = piece.cols.count;
    const int64_t visits = !kernel.drawn ? kVisits : kernel.taken == Taken::kVector ? kDrawnVisits : kSharedVisits;
    if (piece.order == Order::kRows) {
      const int64_t each = ceil(cols, visits);
      piece.line = divisor(each);
      piece.tasks = rows * each;
    } else if (piece.order == Order::kFlat) {
      piece.line = divisor(cols);
      piece.tasks = ceil(rows * cols, visits);
    } else {
      const bool tall = piece.order == Order::kTall;
      const int64_t steps = ceil(tall ? rows : cols, kSteps);
      piece.line = divisor(steps);
      piece.tasks = steps * ceil(tall ? cols : rows, kVisits / kSteps);
    }
    Batch& batch = pieces_.batches[kernel.index()];
    piece.first_task = batch.tasks();
    batch.pieces.push_back(piece);
    batch.listed |= piece.rows.first_visit >= 0 || piece.cols.first_visit >= 0;
  }

  const TileJob& job_;
  const RuleNumbers& numbers_;
  const int64_t limit_;
  Pieces& pieces_;
  View out_, weight_;
  bool swapped_ = false;
};

}  // namespace

Pieces cut(const std::vector<TileJob>& jobs, int64_t limit) {
  Pieces pieces;
  for (const TileJob& job : jobs) {
    if (job.out.numel()) Cutter(job, limit, pieces).run();
  }
  return pieces;
}

}  // namespace gk::cuda
