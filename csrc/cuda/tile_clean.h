// `tile` without normals: copies, and fills with a constant.
#pragma once

#include "tile_access.h"
#include "tile_tasks.h"

namespace gk::cuda {

// What a piece does to the values of its source.
template <class Access>
struct Arithmetic {
  using Compute = typename Access::Compute;

  GK_KERNEL explicit Arithmetic(const Piece& piece)
      : scale(piece.scale), shifts(piece.shift != 0), factor(piece.factor), shift(piece.shift) {}

  GK_KERNEL void apply(typename Access::Values& values) const {
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) {
      if (scale == Scale::kMultiply) values[i] = values[i] * factor;
      if (scale == Scale::kDivide) values[i] = values[i] / factor;
      if (shifts) values[i] = values[i] + shift;
    }
  }
  // What stands where the diagonal structure keeps nothing.
  GK_KERNEL Compute absent() const { return Compute(0) + shift; }

  Scale scale;
  bool shifts;
  Compute factor, shift;
};

template <class Access>
GK_KERNEL typename Access::Stored constant(typename Access::Compute value, DType dtype) {
  typename Access::Values values;
  GK_UNROLL
  for (int i = 0; i < Access::kWidth; ++i) values[i] = value;
  return Access::round(values, dtype);
}

// Writes a visit, noise-free, to all its copies.
template <class Access>
GK_KERNEL void write_clean(const Piece& piece, const Spot& spot, const Visit* visits, const typename Access::Raw& raw,
                           const Arithmetic<Access>& arithmetic) {
  const DType dtype = piece.target_dtype;
  typename Access::Stored stored;
  if (Access::kMovable && piece.moved) {
    stored = Access::moved(raw);
  } else {
    typename Access::Values values;
    Access::read(values, raw, piece.source_dtype);
    arithmetic.apply(values);
    stored = Access::round(values, dtype);
  }
  const uint32_t row_copies = piece.rows.copies_of(spot.i, visits),
                 column_copies = piece.cols.copies_of(spot.j, visits);
  const int64_t row_pitch = piece.rows.pitch_of(spot.i, visits) * piece.rows.target_stride;
  const int64_t column_pitch = piece.cols.pitch_of(spot.j, visits) * piece.cols.target_stride;
  char* row = piece.target_of(spot.i, spot.j, visits);
  for (uint32_t i = 0; i < row_copies; ++i, row += row_pitch) {
    char* to = row;
    for (uint32_t j = 0; j < column_copies; ++j, to += column_pitch) {
      if (piece.keeps(i, j)) {
        Access::store(to, stored, dtype);
      } else {
        Access::store(to, constant<Access>(arithmetic.absent(), dtype), dtype);
      }
    }
  }
}

template <class Access>
struct CleanTile {
  using Shared = Empty;
  static constexpr const char* kName = Access::kWidth > 1 ? "tile of vectors" : "tile of elements";

  template <class Lanes>
  static GK_KERNEL void run(Lanes& lanes, Shared&, const Piece& piece, const Visit* visits, uint32_t task) {
    typename Access::Raw raw[kSteps];
    Spot spots[kSteps];
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      spots[step] = locate<(Access::kWidth > 1), kVisits>(piece, visits, task, lanes.lane(), step);
      if (spots[step].inside && piece.source)
        raw[step] = Access::load(piece.source_of(spots[step].i, spots[step].j, visits), piece.source_dtype);
    }
    const Arithmetic<Access> arithmetic(piece);
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      if (!spots[step].inside) continue;
      if (piece.source) {
        write_clean<Access>(piece, spots[step], visits, raw[step], arithmetic);
      } else {
        const auto value = typename Access::Compute(piece.constant);
        char* to = piece.target_of(spots[step].i, spots[step].j, visits);
        Access::store(to, constant<Access>(value, piece.target_dtype), piece.target_dtype);
      }
    }
  }
};

}  // namespace gk::cuda
