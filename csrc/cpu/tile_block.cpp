#include "tile_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace gk {
namespace {

template <class Compute>
class Block {
 public:
  Block(const TileGeometry& g, const Part& rows, const Part& columns)
      : g_(g), numbers_(g.job->numbers), rows_(rows), columns_(columns), n_(rows.count * columns.count) {}

  void run() {
    if (rows_.segment.is_new() || columns_.segment.is_new()) {
      fill();
    } else if (g_.noise_std != 0 && columns_.segment.copies > 1) {
      load();
      load_absent();
      noisy();
    } else {
      clean();
    }
  }

 private:
  const ComputeLoops<Compute>& compute() const { return loops().compute<Compute>(); }
  int out_kind() const { return int(g_.out.dtype); }
  char* out_at(int64_t row, int64_t column) const {
    return g_.out.at(row * g_.out.strides[0] + column * g_.out.strides[1]);
  }
  const char* source_at(int64_t row, int64_t column) const {
    return g_.weight.at(rows_.source(row) * g_.weight.strides[0] + columns_.source(column) * g_.weight.strides[1]);
  }

  // The noise-free values of the block.
  void load() {
    const auto read = compute().load[int(g_.weight.dtype)];
    const int item = g_.weight.item();
    if (g_.weight.strides[0] == 1 && g_.weight.strides[1] != 1 && rows_.count > 1) {
      for (int64_t j = 0; j < columns_.count; ++j) {
        std::memcpy(stored_[0] + j * rows_.count * item, source_at(0, j), rows_.count * item);
        // Each column lies on pages of its own, which hardware does not foresee: ask for the next block's.
        const char* next = source_at(0, j + columns_.count);
        for (int64_t line = 0; line < rows_.count * item; line += 64) __builtin_prefetch(next + line);
      }
      loops().transpose(turned_, stored_[0], columns_.count, rows_.count, rows_.count, item);
      read(values_, turned_, 1, n_);
    } else {
      for (int64_t i = 0; i < rows_.count; ++i) {
        read(values_ + i * columns_.count, source_at(i, 0), g_.weight.strides[1], columns_.count);
      }
    }
    scale();
    if (numbers_.shift != 0) compute().add(values_, Compute(numbers_.shift), n_);
  }

  // By a power of two the product with the inverse is the quotient, to the bit, and much quicker.
  void scale() {
    const auto divisor = Compute(numbers_.divisor);
    int exponent;
    if (divisor == 1) return;
    if (std::abs(std::frexp(divisor, &exponent)) == Compute(0.5) && std::abs(exponent) < 100) {
      compute().multiply(values_, 1 / divisor, n_);
    } else {
      compute().divide(values_, divisor, n_);
    }
  }

  // One row of what stands where the diagonal structure keeps nothing.
  void load_absent() {
    if (numbers_.diagonal) std::fill(absent_, absent_ + columns_.count, Compute(0) + Compute(numbers_.shift));
  }

  bool kept(int64_t row_copy, int64_t column_copy) const {
    if (!numbers_.diagonal) return true;
    if (g_.swapped) std::swap(row_copy, column_copy);
    return column_copy == row_copy % g_.job->cols.copies();
  }

  // Copies the block's elements, rows `pitch` bytes apart, to where one of its copies lies.
  void emit(int64_t row_copy, int64_t column_copy, const char* block, int64_t pitch) {
    const int64_t item = g_.out.item(), row_bytes = g_.out.strides[0] * item, column_bytes = g_.out.strides[1] * item;
    const bool down = g_.out.strides[1] != 1;
    if (down) {
      loops().transpose(turned_, block, rows_.count, columns_.count, pitch / item, item);
      block = turned_;
      pitch = rows_.count * item;
    }
    rows_.for_each_run(row_copy, [&](int64_t i, int64_t row, int64_t height) {
      columns_.for_each_run(column_copy, [&](int64_t j, int64_t column, int64_t width) {
        char* to = out_at(row, column);
        if (!down) {
          copy_lines(to, row_bytes, block + i * pitch + j * item, pitch, height, width * item);
        } else if (row_bytes == item) {
          copy_lines(to, column_bytes, block + j * pitch + i * item, pitch, width, height * item);
        } else {
          scatter(to, block + j * pitch + i * item, pitch, height, width);
        }
      });
    });
  }

  void copy_lines(char* to, int64_t to_pitch, const char* from, int64_t pitch, int64_t lines, int64_t bytes) const {
    if (g_.streamed) {
      loops().stream(to, to_pitch, from, pitch, lines, bytes);
    } else {
      for (int64_t line = 0; line < lines; ++line) std::memcpy(to + line * to_pitch, from + line * pitch, bytes);
    }
  }

  // A transposed block to where neither axis runs along memory.
  void scatter(char* to, const char* from, int64_t pitch, int64_t height, int64_t width) const {
    const int64_t item = g_.out.item(), row_bytes = g_.out.strides[0] * item, column_bytes = g_.out.strides[1] * item;
    for (int64_t j = 0; j < width; ++j) {
      for (int64_t i = 0; i < height; ++i) {
        std::memcpy(to + j * column_bytes + i * row_bytes, from + j * pitch + i * item, item);
      }
    }
  }

  void clean() {
    const int item = g_.out.item();
    const bool moved = numbers_.divisor == 1 && numbers_.shift == 0 && g_.weight.dtype == g_.out.dtype;
    const char* block = stored_[0];
    int64_t pitch = columns_.count * item;
    if (moved && g_.weight.strides[1] == 1) {
      block = source_at(0, 0);
      pitch = g_.weight.strides[0] * item;
    } else {
      load();
      compute().store[out_kind()](stored_[0], values_, n_);
    }
    load_absent();
    if (numbers_.diagonal) compute().store[out_kind()](stored_[1], absent_, columns_.count);
    for (int64_t row_copy = 0; row_copy < rows_.segment.copies; ++row_copy) {
      for (int64_t column_copy = 0; column_copy < columns_.segment.copies; ++column_copy) {
        if (kept(row_copy, column_copy)) {
          emit(row_copy, column_copy, block, pitch);
        } else {
          emit(row_copy, column_copy, stored_[1], 0);
        }
      }
    }
  }

  // The normals of one target row and pair, for the block's columns.
  const float* normals(float* buffer, int64_t target_row, int64_t pair) const {
    const int64_t pairs = (g_.cols->copies() + 1) / 2;
    const uint64_t e = uint64_t(target_row * pairs + pair) * g_.weight.sizes[1] + columns_.source(0);
    return loops().normals(buffer, numbers_.key, kWidthField, e, columns_.count);
  }

  // Noise works on the copies two by two, the last three of an odd number together.
  void noisy() {
    const int64_t copies = columns_.segment.copies, pitch = columns_.count * g_.out.item();
    const bool in_place = g_.out.strides[1] == 1 && columns_.in_one_group();
    for (int64_t row_copy = 0; row_copy < rows_.segment.copies; ++row_copy) {
      for (int64_t first = 0, count; first < copies; first += count) {
        count = copies - first == 3 ? 3 : 2;
        for (int64_t i = 0; i < rows_.count; ++i) {
          const int64_t row = rows_.target(i, row_copy);
          void* to[3];
          const Compute* s[3];
          for (int64_t c = 0; c < count; ++c) {
            to[c] = in_place ? out_at(row, columns_.target(0, first + c)) : stored_[c] + i * pitch;
            s[c] = kept(row_copy, first + c) ? values_ + i * columns_.count : absent_;
          }
          combine(to, s, count, row, first / 2);
        }
        for (int64_t c = 0; c < count && !in_place; ++c) emit(row_copy, first + c, stored_[c], pitch);
      }
    }
  }

  void combine(void* const to[3], const Compute* const s[3], int64_t count, int64_t row, int64_t pair) {
    const auto std = Compute(g_.noise_std);
    const float* z1 = normals(z1_, row, pair);
    if (count == 2) {
      compute().pair[out_kind()](to[0], to[1], s[0], s[1], z1, std, columns_.count);
    } else {
      const float* z2 = normals(z2_, row, pair + 1);
      compute().triangle[out_kind()](to, s, z1, z2, std, columns_.count);
    }
  }

  // Entries whose row, column or both are new: a constant, and normals counted over the whole target.
  void fill() {
    const bool new_row = rows_.segment.is_new(), new_column = columns_.segment.is_new();
    const bool row_axis = g_.swapped ? new_column : new_row, column_axis = g_.swapped ? new_row : new_column;
    const Fill& fill = row_axis && column_axis ? numbers_.new_both : row_axis ? numbers_.new_row : numbers_.new_column;
    const uint64_t field = row_axis && column_axis ? kNewBothField : row_axis ? kNewRowField : kNewColumnField;
    const int64_t pitch = columns_.count * g_.out.item();
    std::fill(values_, values_ + n_, Compute(fill.constant));
    compute().store[out_kind()](stored_[0], values_, n_);
    for (int64_t row_copy = 0; row_copy < rows_.segment.copies; ++row_copy) {
      for (int64_t column_copy = 0; column_copy < columns_.segment.copies; ++column_copy) {
        if (fill.std != 0) draw(fill, field, row_copy, column_copy);
        emit(row_copy, column_copy, stored_[0], pitch);
      }
    }
  }

  void draw(const Fill& fill, uint64_t field, int64_t row_copy, int64_t column_copy) {
    for (int64_t i = 0; i < rows_.count; ++i) {
      const int64_t row = rows_.target(i, row_copy);
      columns_.for_each_run(column_copy, [&](int64_t j, int64_t column, int64_t n) {
        const uint64_t e = uint64_t(row) * g_.out.sizes[1] + column;
        const float* z = loops().normals(z1_, numbers_.key, field, e, n);
        compute().fill(values_ + i * columns_.count + j, z, Compute(fill.constant), Compute(fill.std), n);
      });
    }
    compute().store[out_kind()](stored_[0], values_, n_);
  }

  const TileGeometry& g_;
  const RuleNumbers& numbers_;
  const Part &rows_, &columns_;
  const int64_t n_;
  alignas(64) Compute values_[kBlock], absent_[kRowBlock];
  alignas(64) float z1_[kRowBlock + kNormalsSlack], z2_[kRowBlock + kNormalsSlack];
  alignas(64) char stored_[3][kBlock * sizeof(Compute)], turned_[kBlock * sizeof(Compute)];
};

}  // namespace

template <class Compute>
void tile_block(const TileGeometry& geometry, const Part& rows, const Part& columns) {
  Block<Compute>(geometry, rows, columns).run();
}

template void tile_block<float>(const TileGeometry&, const Part&, const Part&);
template void tile_block<double>(const TileGeometry&, const Part&, const Part&);

}  // namespace gk
