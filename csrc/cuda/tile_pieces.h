// `tile` as its kernels see it: rectangles of visits, one beside the other in a table, cut into tasks of equal size.
//
// A visit is one source index of an axis: it is read once and written to all its copies. A piece is the rectangle of a
// range of row visits and a range of column visits, or one of entries to be filled. Numbers inside a piece fit 32
// bits; offsets are 64 bits wide.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/jobs.h"
#include "../common/philox.h"

namespace gk::cuda {

// n / value for n < 2^31, by one product.
struct Divisor {
  uint32_t value, factor, shift;

  GK_INLINE uint32_t quotient(uint32_t n) const { return uint32_t(uint64_t{n << 1} * factor >> 32) >> shift; }
};

// Where one visit of an axis is read and where its copies are written, `pitch` apart; indices of the axis.
struct Visit {
  int64_t source, target, pitch;
  uint32_t copies, starts_run;  // a run: visits whose sources follow one another
};

// The visits of one axis of a piece: groups of them side by side, from one group to the next a jump in the source and
// one in the target; or the entries of a table from `first_visit` on. A unit is an element, or a vector of a column
// axis; a piece's first one is unit 0, a table counts from the axis's first element.
struct Span {
  uint32_t count, copies;  // in a table: most copies
  Divisor group;
  // Bytes from one unit, group or copy to the next. Strides and jumps fit 32 bits, except strides of a table.
  int64_t source_stride, target_stride, source_jump, target_jump, pitch;
  int64_t first_visit;
};

// A span and the table that its visits may be listed in; null where the kernel knows that they are not.
struct Places {
  const Span& span;
  const Visit* table;

  GK_INLINE bool listed() const { return table && span.first_visit >= 0; }
  GK_INLINE const Visit& visit(uint32_t i) const { return table[span.first_visit + i]; }

  GK_INLINE int64_t source_bytes(uint32_t i) const {
    if (listed()) return visit(i).source * span.source_stride;
    const uint32_t turn = span.group.quotient(i);
    return bytes(turn, i - turn * span.group.value, span.source_jump, span.source_stride);
  }
  GK_INLINE int64_t target_bytes(uint32_t i) const {
    if (listed()) return visit(i).target * span.target_stride;
    const uint32_t turn = span.group.quotient(i);
    return bytes(turn, i - turn * span.group.value, span.target_jump, span.target_stride);
  }
  GK_INLINE int64_t pitch_bytes(uint32_t i) const {
    return listed() ? visit(i).pitch * span.target_stride : span.pitch;
  }
  GK_INLINE uint32_t copies(uint32_t i) const { return listed() ? visit(i).copies : span.copies; }
  GK_INLINE int64_t source_unit(uint32_t i) const { return listed() ? visit(i).source : i; }
  GK_INLINE bool starts_run(uint32_t i) const { return i == 0 || (listed() && visit(i).starts_run); }

  static GK_INLINE int64_t bytes(uint32_t turn, uint32_t inside, int64_t jump, int64_t stride) {
    return int64_t(wide_product(turn, uint32_t(jump)) + wide_product(inside, uint32_t(stride)));
  }
};

// A number of the arithmetic, kept as the kernel takes it: conversions from fp64 are slow.
struct Number {
  uint64_t stored;

  template <class Compute>
  GK_INLINE Compute as() const {
    if constexpr (sizeof(Compute) == 4) {
      return bits<Compute>(uint32_t(stored));
    } else {
      return bits<Compute>(stored);
    }
  }
};

enum class Scale : uint8_t { kNone, kMultiply, kDivide };

// Which visits a task has. Rows: up to 128 of one row. Flat: consecutive ones of narrow rows laid end to end. Tall:
// four rows of 32 columns, for a source that runs down its columns: what one access brings to the caches serves the
// next rows. Down: 32 rows, one for each lane, of four columns, for a target that runs down its columns.
enum class Order : uint8_t { kRows, kFlat, kTall, kDown };

struct Piece {
  KeySchedule key;
  int64_t first_task, tasks;
  const char* source;  // of the first visit; null for a fill
  char* target;
  Span rows, cols;
  Divisor line;  // tasks of a row, visits of a row (flat), or tasks along the axis that lanes do not take
  // Element of the noise: origin + the row's target unit * row_elements + pair * pair_elements + the column's source.
  uint64_t field, origin;
  int64_t row_elements, pair_elements, copy_elements;  // the last from one row copy to the next
  Number factor, shift, constant;
  Number std;            // of the noise or fill; where it is measured, in fp64, times the root of *square
  const double* square;  // as in RuleNumbers
  Divisor column_copies;
  DType source_dtype, target_dtype;
  Scale scale;
  Order order;
  bool shifts;
  bool moved;   // copies have the source's bits
  bool halved;  // two halves of 16-bit items, rounded to fp32, are the item again: the divisor is 2, nothing is added
  bool diagonal;
  bool swapped;  // rows are the rule's columns

  // Whether the diagonal structure keeps the block of these copies.
  GK_INLINE bool keeps(uint32_t row_copy, uint32_t column_copy) const {
    if (!diagonal) return true;
    const uint32_t row = swapped ? column_copy : row_copy, column = swapped ? row_copy : column_copy;
    return column == row - column_copies.quotient(row) * column_copies.value;
  }
};

// Visits of a task, which a warp takes in steps of 32: four, eight of vectors with normals. Where normals are shared
// out there are 124: they lie in 32 quads.
constexpr uint32_t kSteps = 4, kVisits = 128, kSharedVisits = 124, kDrawnSteps = 8, kDrawnVisits = 256;
// Units of a row from which its tasks are its own: below that most lanes would be idle.
constexpr uint32_t kNarrow = 24;

// What a kernel of `tile` takes at once: a vector of 16 bytes of the target; or an element: of 2 bytes, of 4 bytes with
// columns that are not listed; any other, computed in fp32 or in fp64.
enum class Taken : uint8_t { kVector, kTwoBytes, kFourBytes, kElement, kWideElement };

// The kernels: with or without normals; those of vectors by the size of the source's items (2 or 4) and the target's
// dtype.
struct TileKernelId {
  bool drawn;
  Taken taken;
  int source_item;
  DType target;

  int index() const {
    return drawn * 10 + (taken == Taken::kVector ? int(target) * 2 + source_item / 4 : 5 + int(taken));
  }
};
constexpr int kTileKernels = 20;

// The pieces of one kernel.
struct Batch {
  std::vector<Piece> pieces;
  bool listed = false;  // whether one has an axis of listed visits

  int64_t tasks() const { return pieces.empty() ? 0 : pieces.back().first_task + pieces.back().tasks; }
};

struct Pieces {
  Batch batches[kTileKernels];
  std::vector<Visit> visits;
};

// Cuts the jobs into pieces of at most `limit` visits, a power of two up to 2^30.
Pieces cut(const std::vector<TileJob>& jobs, int64_t limit);

}  // namespace gk::cuda
