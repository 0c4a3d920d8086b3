// `tile` as its kernels see it: rectangles of visits, one beside the other in a table, cut into tasks of equal size.
//
// A visit is one source index of an axis: it is read once and written to all its copies. A piece is the rectangle of a
// stretch of row visits and a stretch of column visits, or one of entries to be filled. Numbers inside a piece fit 32
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

// Where one visit of an axis is read and where its copies are written, `pitch` apart.
struct Visit {
  int64_t source, target, pitch;
  uint32_t copies, starts_run;  // a run: visits whose sources follow one another
};

// The visits of one axis of a piece: groups of them side by side, from one group to the next a jump in the source and
// one in the target; or the entries of a table from `first_visit` on. Indices count units, elements or the vectors of a
// column axis, from the piece's first ones or from 0 in a table.
struct Span {
  uint32_t count, copies;  // in a table: most copies
  Divisor group;
  int64_t source_jump, target_jump, pitch, first_visit;
  int64_t source_stride, target_stride;  // bytes from one unit to the next

  GK_INLINE bool listed() const { return first_visit >= 0; }
  GK_INLINE int64_t source_of(uint32_t i, const Visit* table) const {
    return listed() ? table[first_visit + i].source : jumped(i, source_jump);
  }
  GK_INLINE int64_t target_of(uint32_t i, const Visit* table) const {
    return listed() ? table[first_visit + i].target : jumped(i, target_jump);
  }
  GK_INLINE int64_t pitch_of(uint32_t i, const Visit* table) const {
    return listed() ? table[first_visit + i].pitch : pitch;
  }
  GK_INLINE uint32_t copies_of(uint32_t i, const Visit* table) const {
    return listed() ? table[first_visit + i].copies : copies;
  }
  GK_INLINE bool starts_run(uint32_t i, const Visit* table) const {
    return i == 0 || (listed() && table[first_visit + i].starts_run);
  }

 private:
  GK_INLINE int64_t jumped(uint32_t i, int64_t jump) const {
    const uint32_t turn = group.quotient(i);
    return turn * jump + (i - turn * group.value);
  }
};

enum class Scale : uint8_t { kNone, kMultiply, kDivide };

// Which visits the lanes of a warp take. Flat: consecutive ones of the rows laid end to end. Tall: consecutive columns
// of four rows, for a source that runs down its columns: what one access brings to the caches serves the next rows.
// Down: consecutive rows of four columns, for a target that runs down its columns.
enum class Order : uint8_t { kFlat, kTall, kDown };

struct Piece {
  KeySchedule key;
  const char* source;  // of the first visit; null for a fill
  char* target;
  Span rows, cols;
  Divisor line;  // visits of a row (flat), or tiles side by side along the axis that lanes do not take
  // Element of the noise: origin + the row's target index * row_elements + pair * pair_elements + the column's source.
  uint64_t field, origin;
  int64_t row_elements, pair_elements;
  double factor, shift, constant, std, snr;
  const double* square;  // as in RuleNumbers
  Divisor column_copies;
  DType source_dtype, target_dtype;
  Scale scale;
  Order order;
  bool moved, diagonal, swapped;  // moved: copies have the source's bits; swapped: rows are the rule's columns

  // Whether the diagonal structure keeps the block of these copies.
  GK_INLINE bool keeps(uint32_t row_copy, uint32_t column_copy) const {
    if (!diagonal) return true;
    const uint32_t row = swapped ? column_copy : row_copy, column = swapped ? row_copy : column_copy;
    return column == row - column_copies.quotient(row) * column_copies.value;
  }
  GK_INLINE const char* source_of(uint32_t i, uint32_t j, const Visit* visits) const {
    return source + rows.source_of(i, visits) * rows.source_stride + cols.source_of(j, visits) * cols.source_stride;
  }
  GK_INLINE char* target_of(uint32_t i, uint32_t j, const Visit* visits) const {
    return target + rows.target_of(i, visits) * rows.target_stride + cols.target_of(j, visits) * cols.target_stride;
  }
};

// Visits of a task, as many as a warp takes at once four times; where normals are shared out 124 of them lie in 32
// quads.
constexpr uint32_t kVisits = 128, kDrawnVisits = 124, kSteps = 4;

// The kernels of `tile`: with or without normals; of vectors of 16 bytes of the target, by the size of the source's
// items (2 or 4) and the target's dtype, or of single elements, computed in fp32 or fp64.
struct TileKernelId {
  bool drawn, vectors;
  int source_item;
  DType target;
  bool wide;

  int index() const { return drawn * 8 + (vectors ? int(target) * 2 + source_item / 4 : 6 + wide); }
};
constexpr int kTileKernels = 16;

// The pieces of one kernel. Piece i has the tasks [first_task[i], first_task[i + 1]).
struct Batch {
  std::vector<Piece> pieces;
  std::vector<int64_t> first_task{0};
  bool listed = false;  // whether a piece has an axis of listed visits

  int64_t tasks() const { return first_task.back(); }
};

struct Pieces {
  Batch batches[kTileKernels];
  std::vector<Visit> visits;
};

// Cuts the jobs into pieces of at most `limit` visits, a power of two up to 2^30.
Pieces cut(const std::vector<TileJob>& jobs, int64_t limit);

}  // namespace gk::cuda
