// `tile` with normals: noise on copies, two by two (the last three of an odd number together), and fills that are
// drawn.
#pragma once

#include "../common/normal.h"
#include "tile_clean.h"

namespace gk::cuda {

template <class Compute>
GK_KERNEL Compute std_of(const Piece& piece) {
  return piece.square ? Compute(measured_std(*piece.square, piece.std.as<double>())) : piece.std.as<Compute>();
}
// Whether the noise came out as none: values are then rounded one by one.
template <class Compute>
GK_KERNEL bool silent(const Piece& piece, Compute std) {
  return piece.square && std == 0;
}

// The copies that go in pairs; of an odd number the last three go together.
GK_KERNEL uint32_t in_pairs(uint32_t copies) { return copies % 2 ? copies - 3 : copies; }

// Noise on the copies of one visit, or of several that the same arithmetic goes for.
template <class Access>
struct Noise {
  using Compute = typename Access::Compute;
  using Values = typename Access::Values;
  using Raw = typename Access::Raw;
  using Stored = typename Access::Stored;
  using Normals = float[Access::kWidth];

  GK_KERNEL Noise(const Piece& piece, Compute std) : piece(piece), dtype(piece.target_dtype), std(std) {}

  // Copies `first` and `first` + 1 with opposite noise, rounded jointly, to `to` and `pitch` bytes further. `kept` is
  // what the arithmetic made of `raw`.
  GK_KERNEL void pair(char* to, int64_t pitch, const Raw& raw, const Values& kept, uint32_t row_copy, uint32_t first,
                      const Normals& z) const {
    if (piece.diagonal) {
      Values a, b;
      choose(a, kept, row_copy, first);
      choose(b, kept, row_copy, first + 1);
      const auto stored = lifted(a, z);
      Access::store(to, stored, dtype);
      Access::store(to + pitch, rest(a, b, stored), dtype);
    } else {
      const auto stored = lifted(kept, z);
      Access::store(to, stored, dtype);
      if (Access::kHalvable && piece.halved) {
        Access::store(to + pitch, Access::rest(raw, stored), dtype);
      } else {
        Access::store(to + pitch, rest(kept, kept, stored), dtype);
      }
    }
  }

  // The three copies from `first` on, their noise a triangle in the plane of two normals, rounded one by one.
  GK_KERNEL void triangle(char* to, int64_t pitch, const Values& kept, uint32_t row_copy, uint32_t first,
                          const Normals& z1, const Normals& z2) const {
    Values a, b, c;
    choose(a, kept, row_copy, first);
    choose(b, kept, row_copy, first + 1);
    choose(c, kept, row_copy, first + 2);
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) {
      const Compute half = Compute(0.5) * Compute(z1[i]), swing = Compute(kTriangle) * Compute(z2[i]);
      a[i] = a[i] + std * Compute(z1[i]);
      b[i] = b[i] + std * (swing - half);
      c[i] = c[i] + std * (-half - swing);
    }
    Access::store(to, Access::round(a, dtype), dtype);
    Access::store(to + pitch, Access::round(b, dtype), dtype);
    Access::store(to + 2 * pitch, Access::round(c, dtype), dtype);
  }

  GK_KERNEL void fill(char* to, const Normals& z) const {
    const auto constant = piece.constant.as<Compute>();
    Values values;
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) values[i] = constant + std * Compute(z[i]);
    Access::store(to, Access::round(values, dtype), dtype);
  }

 private:
  GK_KERNEL void choose(Values& values, const Values& kept, uint32_t row_copy, uint32_t column_copy) const {
    const bool keeps = piece.keeps(row_copy, column_copy);
    const Compute absent = Arithmetic<Access>(piece).absent();
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) values[i] = keeps ? kept[i] : absent;
  }

  GK_KERNEL Stored lifted(const Values& values, const Normals& z) const {
    Values sums;
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) sums[i] = values[i] + std * Compute(z[i]);
    return Access::round(sums, dtype);
  }

  // (a + b) less what is stored.
  GK_KERNEL Stored rest(const Values& a, const Values& b, const Stored& stored) const {
    Values values;
    Access::read_back(values, stored, dtype);
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) values[i] = (a[i] + b[i]) - values[i];
    return Access::round(values, dtype);
  }

  const Piece& piece;
  const DType dtype;
  const Compute std;
};

// Vectors that begin with a quad: each thread makes the normals of its own.
template <class Access>
struct DrawnVectors {
  // Rows wait here while normals are made, which takes most registers: the first is that of a task of one row.
  struct Shared {
    Row rows[kWarp];
    RowTask<kDrawnVisits> part;
  };
  using Normals = typename Noise<Access>::Normals;
  static constexpr int kBlocks = 3;
  static constexpr const char* kName = "tile of vectors with normals";

  template <class Lanes>
  static GK_KERNEL void run(Lanes& lanes, Shared& shared, const Piece& piece, const Visit* visits, uint32_t task) {
    const Places rows{piece.rows, visits}, cols{piece.cols, nullptr};
    const auto std = std_of<typename Access::Compute>(piece);
    const Noise<Access> noise(piece, std);
    const uint32_t copies = cols.span.copies, pairs_end = in_pairs(copies);
    const bool by_rows = piece.order == Order::kRows;
    if (by_rows) {
      if (lanes.lane() == 0) {
        shared.part = RowTask<kDrawnVisits>(piece, task);
        shared.rows[0] = Row(piece, rows, shared.part.i);
      }
      lanes.sync_warp();
    }
    Row& row = shared.rows[by_rows ? 0 : lanes.lane()];
    GK_ROLLED
    for (uint32_t step = 0; step < kDrawnSteps; ++step) {
      const uint32_t turn = step * kWarp + lanes.lane();
      const Spot spot = by_rows ? shared.part.spot(turn) : flat_spot<kDrawnVisits>(piece, task, turn);
      if (!spot.inside) continue;
      if (!by_rows) row = Row(piece, rows, spot.i);
      char* line = row.target + cols.target_bytes(spot.j);
      uint64_t line_quad = row.element / 4 + uint64_t{spot.j} * (Access::kWidth / 4);
      if (!piece.source) {
        Normals z;
        normals(z, piece.key, piece.field, line_quad);
        noise.fill(line, z);
        continue;
      }
      const Arithmetic<Access> arithmetic(piece);
      const auto raw = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
      if (silent(piece, std)) {
        write_clean<Access>(piece, row, cols, spot.j, raw, arithmetic);
        continue;
      }
      typename Access::Values kept;
      Access::read(kept, raw, piece.source_dtype);
      arithmetic.apply(kept);
      const uint64_t next_quads = row.next_elements / 4;
      GK_ROLLED
      for (uint32_t row_copy = 0; row_copy < row.copies; ++row_copy, line += row.pitch, line_quad += next_quads) {
        uint64_t quad = line_quad;
        char* to = line;
        GK_ROLLED
        for (uint32_t first = 0; first < pairs_end;
             first += 2, to += 2 * cols.span.pitch, quad += uint64_t(piece.pair_elements) / 4) {
          Normals z;
          normals(z, piece.key, kWidthField, quad);
          noise.pair(to, cols.span.pitch, raw, kept, row_copy, first, z);
        }
        if (pairs_end < copies) {
          Normals z1, z2;
          normals(z1, piece.key, kWidthField, quad);
          normals(z2, piece.key, kWidthField, quad + uint64_t(piece.pair_elements) / 4);
          noise.triangle(to, cols.span.pitch, kept, row_copy, pairs_end, z1, z2);
        }
      }
    }
    lanes.sync_warp();
  }

 private:
  static GK_KERNEL void normals(Normals& z, const KeySchedule& key, uint64_t field, uint64_t quad) {
    GK_UNROLL
    for (int q = 0; q < Access::kWidth / 4; ++q) {
      const Quad made = normal_quad(key, field, quad + q);
      GK_UNROLL
      for (int i = 0; i < 4; ++i) z[4 * q + i] = made.z[i];
    }
  }
};

// Single elements: the warp makes the quads that its visits lie in, and each thread picks its normals.
template <class Access>
struct DrawnElements {
  struct Shared {
    Quad normals[kVisits];
    uint64_t quads[kVisits];
  };
  using Normals = typename Noise<Access>::Normals;
  static constexpr int kBlocks = 2;
  static constexpr const char* kName = "tile of elements with normals";

  template <class Lanes>
  static GK_KERNEL void run(Lanes& lanes, Shared& shared, const Piece& piece, const Visit* visits, uint32_t task) {
    const Places rows{piece.rows, visits}, cols{piece.cols, visits};
    const auto std = std_of<typename Access::Compute>(piece);
    const Arithmetic<Access> arithmetic(piece);
    const Noise<Access> noise(piece, std);
    Spot spots[kSteps];
    typename Access::Raw raw[kSteps];
    uint64_t e[kSteps];
    char* lines[kSteps];
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint32_t turn = step * kWarp + lanes.lane();
      spots[step] = piece.order == Order::kRows   ? RowTask<kSharedVisits>(piece, task).spot(turn)
                    : piece.order == Order::kFlat ? flat_spot<kSharedVisits>(piece, task, turn)
                                                  : tile_spot(piece, task, lanes.lane(), step);
      Spot& spot = spots[step];
      if (!spot.inside) continue;
      spot.starts_run |= cols.starts_run(spot.j);
      const Row row(piece, rows, spot.i);
      if (piece.source) raw[step] = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
      lines[step] = row.target + cols.target_bytes(spot.j);
      e[step] = row.element + uint64_t(cols.source_unit(spot.j));
    }
    Normals z1[kSteps], z2[kSteps];
    if (!piece.source) {
      draw(lanes, shared, piece, spots, e, 0, z1);
      GK_UNROLL
      for (uint32_t step = 0; step < kSteps; ++step) {
        if (spots[step].inside) noise.fill(lines[step], z1[step]);
      }
      return;
    }
    if (silent(piece, std)) {
      GK_UNROLL
      for (uint32_t step = 0; step < kSteps; ++step) {
        if (!spots[step].inside) continue;
        const Row row(piece, rows, spots[step].i);
        write_clean<Access>(piece, row, cols, spots[step].j, raw[step], arithmetic);
      }
      return;
    }
    typename Access::Values kept[kSteps];
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      Access::read(kept[step], raw[step], piece.source_dtype);
      arithmetic.apply(kept[step]);
    }
    const uint32_t copies = cols.span.copies, pairs_end = in_pairs(copies);
    for (uint32_t row_copy = 0; row_copy < rows.span.copies; ++row_copy) {
      uint64_t pair = 0;
      for (uint32_t first = 0; first < copies; first += 2, pair += piece.pair_elements) {
        draw(lanes, shared, piece, spots, e, pair, z1);
        if (first == pairs_end) draw(lanes, shared, piece, spots, e, pair + piece.pair_elements, z2);
        GK_UNROLL
        for (uint32_t step = 0; step < kSteps; ++step) {
          const Spot& spot = spots[step];
          if (!spot.inside || row_copy >= rows.copies(spot.i)) continue;
          const int64_t pitch = cols.pitch_bytes(spot.j);
          char* to = lines[step] + first * pitch;
          if (first < pairs_end) {
            noise.pair(to, pitch, raw[step], kept[step], row_copy, first, z1[step]);
          } else {
            noise.triangle(to, pitch, kept[step], row_copy, first, z1[step], z2[step]);
          }
        }
        if (first == pairs_end) break;
      }
      GK_UNROLL
      for (uint32_t step = 0; step < kSteps; ++step) {
        if (!spots[step].inside) continue;
        const Row row(piece, rows, spots[step].i);
        e[step] += row.next_elements;
        lines[step] += row.pitch;
      }
    }
  }

 private:
  // The normals of elements e + offset. Visits whose elements follow one another share quads: the first of each run and
  // those at the beginning of a quad ask for it, the others take the one asked for before.
  template <class Lanes>
  static GK_KERNEL void draw(Lanes& lanes, Shared& shared, const Piece& piece, const Spot (&spots)[kSteps],
                             const uint64_t (&e)[kSteps], uint64_t offset, Normals (&z)[kSteps]) {
    const uint32_t so_far = 0xffffffffu >> (kWarp - 1 - lanes.lane());
    uint32_t slots[kSteps], asked = 0;
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const bool asks = spots[step].inside && (spots[step].starts_run || (e[step] + offset) % 4 == 0);
      const uint32_t mask = lanes.ballot(asks);
      const bool follows = piece.order == Order::kDown && !asks && step > 0;
      slots[step] = follows ? slots[step - 1] : asked + count_bits(mask & so_far) - 1;
      if (asks) shared.quads[slots[step]] = (e[step] + offset) / 4;
      asked += count_bits(mask);
    }
    lanes.sync_warp();
    for (uint32_t i = lanes.lane(); i < asked; i += kWarp) {
      shared.normals[i] = normal_quad(piece.key, piece.field, shared.quads[i]);
    }
    lanes.sync_warp();
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      if (spots[step].inside) z[step][0] = shared.normals[slots[step]].z[(e[step] + offset) % 4];
    }
    lanes.sync_warp();
  }
};

}  // namespace gk::cuda
