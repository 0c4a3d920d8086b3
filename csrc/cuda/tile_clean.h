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
      : scale(piece.scale),
        shifts(piece.shifts),
        factor(piece.factor.as<Compute>()),
        shift(piece.shift.as<Compute>()) {}

  GK_KERNEL void apply(typename Access::Values& values) const {
    if (scale == Scale::kMultiply) {
      GK_UNROLL
      for (int i = 0; i < Access::kWidth; ++i) values[i] = values[i] * factor;
    } else if (scale == Scale::kDivide) {
      GK_UNROLL
      for (int i = 0; i < Access::kWidth; ++i) values[i] = values[i] / factor;
    }
    if (shifts) {
      GK_UNROLL
      for (int i = 0; i < Access::kWidth; ++i) values[i] = values[i] + shift;
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

// Writes column visit j of a row, noise-free, to all its copies.
template <class Access>
GK_KERNEL void write_clean(const Piece& piece, const Row& row, const Places& cols, uint32_t j,
                           const typename Access::Raw& raw, const Arithmetic<Access>& arithmetic) {
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
  const uint32_t copies = cols.copies(j);
  const int64_t pitch = cols.pitch_bytes(j);
  char* line = row.target + cols.target_bytes(j);
  if (!piece.diagonal) {
    GK_ROLLED
    for (uint32_t row_copy = 0; row_copy < row.copies; ++row_copy, line += row.pitch) {
      char* to = line;
      GK_ROLLED
      for (uint32_t copy = 0; copy < copies; ++copy, to += pitch) Access::store(to, stored, dtype);
    }
    return;
  }
  const auto absent = constant<Access>(arithmetic.absent(), dtype);
  GK_ROLLED
  for (uint32_t row_copy = 0; row_copy < row.copies; ++row_copy, line += row.pitch) {
    char* to = line;
    GK_ROLLED
    for (uint32_t copy = 0; copy < copies; ++copy, to += pitch) {
      if (piece.keeps(row_copy, copy)) {
        Access::store(to, stored, dtype);
      } else {
        Access::store(to, absent, dtype);
      }
    }
  }
}

template <class Access>
struct CleanTile {
  using Shared = Empty;
  static constexpr bool kVectors = Access::kWidth > 1;
  static constexpr int kBlocks = sizeof(typename Access::Raw) > 16 ? 3 : 4;
  static constexpr const char* kName = kVectors ? "tile of vectors" : "tile of elements";

  template <class Lanes>
  static GK_KERNEL void run(Lanes& lanes, Shared&, const Piece& piece, const Visit* visits, uint32_t task) {
    const Places rows{piece.rows, visits}, cols{piece.cols, Access::kListed ? visits : nullptr};
    const Arithmetic<Access> arithmetic(piece);
    if (piece.order == Order::kRows && piece.source) {
      row_task(lanes, piece, rows, cols, task, arithmetic);
      return;
    }
    const bool tiles = !kVectors && (piece.order == Order::kTall || piece.order == Order::kDown);
    GK_ROLLED
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint32_t turn = step * kWarp + lanes.lane();
      const Spot spot = piece.order == Order::kRows ? RowTask<kVisits>(piece, task).spot(turn)
                        : tiles                     ? tile_spot(piece, task, lanes.lane(), step)
                                                    : flat_spot<kVisits>(piece, task, turn);
      if (!spot.inside) continue;
      const Row row(piece, rows, spot.i);
      if (piece.source) {
        const auto raw = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
        write_clean<Access>(piece, row, cols, spot.j, raw, arithmetic);
      } else {
        const auto stored = constant<Access>(piece.constant.as<typename Access::Compute>(), piece.target_dtype);
        Access::store(row.target + cols.target_bytes(spot.j), stored, piece.target_dtype);
      }
    }
  }

 private:
  // Part of a row: all that is read is asked for before any of it is used.
  template <class Lanes>
  static GK_KERNEL void row_task(Lanes& lanes, const Piece& piece, const Places& rows, const Places& cols,
                                 uint32_t task, const Arithmetic<Access>& arithmetic) {
    const RowTask<kVisits> part(piece, task);
    const Row row(piece, rows, part.i);
    typename Access::Raw raw[kSteps];
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const Spot spot = part.spot(step * kWarp + lanes.lane());
      if (spot.inside) raw[step] = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
    }
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const Spot spot = part.spot(step * kWarp + lanes.lane());
      if (spot.inside) write_clean<Access>(piece, row, cols, spot.j, raw[step], arithmetic);
    }
  }
};

}  // namespace gk::cuda
