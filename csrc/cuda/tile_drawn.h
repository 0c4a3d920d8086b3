// `tile` with normals: noise on copies, two by two (the last three of an odd number together), and fills that are
// drawn.
#pragma once

#include "../common/normal.h"
#include "tile_clean.h"

namespace gk::cuda {

template <class Compute>
GK_KERNEL Compute std_of(const Piece& piece) {
  return Compute(piece.square ? measured_std(*piece.square, piece.std) : piece.std);
}
// Whether the noise came out as none: values are then rounded one by one.
template <class Compute>
GK_KERNEL bool silent(const Piece& piece, Compute std) {
  return piece.square && std == 0;
}

// Element of the noise that the first column of row visit i draws for its first row copy and first pair; the next row
// copy's is `next_row` further.
GK_KERNEL uint64_t row_element(const Piece& piece, const Places& rows, uint32_t i) {
  return piece.origin + uint64_t(rows.target_unit(i) * piece.row_elements);
}
GK_KERNEL uint64_t next_row(const Piece& piece, const Places& rows, uint32_t i) {
  return uint64_t(rows.listed() ? rows.visit(i).pitch * piece.row_elements : piece.copy_elements);
}

// The copies that go in pairs; of an odd number the last three go together.
GK_KERNEL uint32_t in_pairs(uint32_t copies) { return copies % 2 ? copies - 3 : copies; }

// Noise on the copies of one visit, or of several that the same arithmetic goes for.
template <class Access>
struct Noise {
  using Compute = typename Access::Compute;
  using Values = typename Access::Values;
  using Normals = float[Access::kWidth];

  GK_KERNEL Noise(const Piece& piece, Compute std, const Arithmetic<Access>& arithmetic)
      : piece(piece), dtype(piece.target_dtype), std(std), absent(arithmetic.absent()) {}

  // Copies `first` and `first` + 1 with opposite noise, rounded jointly, to `to` and `pitch` bytes further.
  GK_KERNEL void pair(char* to, int64_t pitch, const Values& kept, uint32_t row_copy, uint32_t first,
                      const Normals& z) const {
    if (piece.diagonal) {
      Values a, b;
      choose(a, kept, row_copy, first);
      choose(b, kept, row_copy, first + 1);
      pair(to, pitch, a, b, z);
    } else {
      pair(to, pitch, kept, kept, z);
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
    const auto constant = Compute(piece.constant);
    Values values;
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) values[i] = constant + std * Compute(z[i]);
    Access::store(to, Access::round(values, dtype), dtype);
  }

 private:
  GK_KERNEL void choose(Values& values, const Values& kept, uint32_t row_copy, uint32_t column_copy) const {
    const bool keeps = piece.keeps(row_copy, column_copy);
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) values[i] = keeps ? kept[i] : absent;
  }

  GK_KERNEL void pair(char* to, int64_t pitch, const Values& a, const Values& b, const Normals& z) const {
    Values first, second;
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) first[i] = a[i] + std * Compute(z[i]);
    const auto stored = Access::round(first, dtype);
    Access::store(to, stored, dtype);
    Access::read_back(first, stored, dtype);
    GK_UNROLL
    for (int i = 0; i < Access::kWidth; ++i) second[i] = (a[i] + b[i]) - first[i];
    Access::store(to + pitch, Access::round(second, dtype), dtype);
  }

  const Piece& piece;
  const DType dtype;
  const Compute std, absent;
};

// Vectors that begin with a quad: each thread makes the normals of its own.
template <class Access>
struct DrawnVectors {
  using Shared = Empty;
  using Normals = typename Noise<Access>::Normals;
  static constexpr int kBlocks = 3;
  static constexpr const char* kName = "tile of vectors with normals";

  template <class Lanes>
  static GK_KERNEL void run(Lanes& lanes, Shared&, const Piece& piece, const Visit* visits, uint32_t task) {
    const Places rows{piece.rows, visits}, cols{piece.cols, nullptr};
    const auto std = std_of<typename Access::Compute>(piece);
    const Arithmetic<Access> arithmetic(piece);
    const Noise<Access> noise(piece, std, arithmetic);
    const uint32_t copies = cols.span.copies, pairs_end = in_pairs(copies);
    const int64_t pitch = cols.span.pitch, pair_quads = piece.pair_elements / 4;
    Row row;
    uint64_t row_quad = 0, row_quads = 0;
    GK_ROLLED
    for (uint32_t step = 0; step < kSteps; ++step) {
      const Spot spot = locate<true, kVisits>(piece, cols, task, lanes.lane(), step);
      if (!spot.inside) continue;
      if (step == 0 || piece.order != Order::kRows) {
        row = Row(piece, rows, spot.i);
        row_quad = row_element(piece, rows, spot.i) / 4;
        row_quads = next_row(piece, rows, spot.i) / 4;
      }
      char* line = row.target + cols.target_bytes(spot.j);
      uint64_t line_quad = row_quad + uint64_t{spot.j} * (Access::kWidth / 4);
      if (!piece.source) {
        Normals z;
        normals(z, piece.key, piece.field, line_quad);
        noise.fill(line, z);
        continue;
      }
      const auto raw = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
      if (silent(piece, std)) {
        write_clean<Access>(piece, row, cols, spot.j, raw, arithmetic);
        continue;
      }
      typename Access::Values kept;
      Access::read(kept, raw, piece.source_dtype);
      arithmetic.apply(kept);
      GK_ROLLED
      for (uint32_t row_copy = 0; row_copy < row.copies; ++row_copy, line += row.pitch, line_quad += row_quads) {
        uint64_t quad = line_quad;
        char* to = line;
        GK_ROLLED
        for (uint32_t first = 0; first < pairs_end; first += 2, to += 2 * pitch, quad += pair_quads) {
          Normals z;
          normals(z, piece.key, kWidthField, quad);
          noise.pair(to, pitch, kept, row_copy, first, z);
        }
        if (pairs_end < copies) {
          Normals z1, z2;
          normals(z1, piece.key, kWidthField, quad);
          normals(z2, piece.key, kWidthField, quad + pair_quads);
          noise.triangle(to, pitch, kept, row_copy, pairs_end, z1, z2);
        }
      }
    }
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
    const Noise<Access> noise(piece, std, arithmetic);
    Spot spots[kSteps];
    typename Access::Raw raw[kSteps];
    uint64_t e[kSteps];
    char* lines[kSteps];
    GK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const Spot& spot = spots[step] = locate<false, kDrawnVisits>(piece, cols, task, lanes.lane(), step);
      if (!spot.inside) continue;
      const Row row(piece, rows, spot.i);
      if (piece.source) raw[step] = Access::load(row.source + cols.source_bytes(spot.j), piece.source_dtype);
      lines[step] = row.target + cols.target_bytes(spot.j);
      e[step] = row_element(piece, rows, spot.i) + uint64_t(cols.source_unit(spot.j));
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
            noise.pair(to, pitch, kept[step], row_copy, first, z1[step]);
          } else {
            noise.triangle(to, pitch, kept[step], row_copy, first, z1[step], z2[step]);
          }
        }
        if (first == pairs_end) break;
      }
      GK_UNROLL
      for (uint32_t step = 0; step < kSteps; ++step) {
        if (!spots[step].inside) continue;
        e[step] += next_row(piece, rows, spots[step].i);
        lines[step] += rows.pitch_bytes(spots[step].i);
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
