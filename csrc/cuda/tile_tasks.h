// The frame of the kernels of `tile`: warps take tasks in turn, each with its piece in shared memory.
#pragma once

#include "lanes.h"
#include "table.h"
#include "tile_pieces.h"

namespace gk::cuda {

// `Body` has `kBlocks`, `Shared`, a warp's own, and run(lanes, shared, piece, visits, task) for one task of a piece.
template <class Body>
struct TileKernel {
  struct Shared {
    alignas(16) Piece pieces[kWarps];
    typename Body::Shared warps[kWarps];
  };

  static constexpr int kBlocks = Body::kBlocks;

  Table table;
  Entries<Piece> pieces;
  Entries<Visit> visits;
  int64_t tasks;

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const {
    Piece& piece = shared.pieces[lanes.warp()];
    const int64_t warps = lanes.blocks() * kWarps;
    // Neighboring tasks to one block, which shares a cache; where there are few, to as many blocks as there are.
    int64_t task =
        tasks < warps ? lanes.warp() * lanes.blocks() + lanes.block() : lanes.block() * kWarps + lanes.warp();
    for (bool first = true; task < tasks; task += warps, first = false) {
      if (first || task >= piece.first_task + piece.tasks) {
        lanes.sync_warp();
        copy(lanes, piece, find(lanes, task));
        lanes.sync_warp();
      }
      Body::run(lanes, shared.warps[lanes.warp()], piece, table.at(visits), uint32_t(task - piece.first_task));
    }
  }

 private:
  // The last piece that begins at or before the task: each lane looks at one of 32 parts of what is left.
  template <class Lanes>
  GK_KERNEL const Piece& find(Lanes& lanes, int64_t task) const {
    const Piece* low = table.at(pieces);
    for (int64_t left = pieces.count; left > 1;) {
      const int64_t part = (left + kWarp - 1) / kWarp, probe = lanes.lane() * part;
      const uint32_t begun = lanes.ballot(probe < left && low[probe].first_task <= task);
      const int64_t last = (count_bits(begun) - 1) * part;
      low += last;
      left = left - last < part ? left - last : part;
    }
    return *low;
  }

  template <class Lanes>
  GK_KERNEL static void copy(Lanes& lanes, Piece& to, const Piece& from) {
    static_assert(sizeof(Piece) % 16 == 0, "pieces in shared memory are aligned, and copied by words");
    for (size_t i = lanes.lane(); i < sizeof(Piece) / sizeof(uint64_t); i += kWarp) {
      reinterpret_cast<uint64_t*>(&to)[i] = reinterpret_cast<const uint64_t*>(&from)[i];
    }
  }
};

// Where a lane works in one step of a task: row visit i, column visit j.
struct Spot {
  bool inside, starts_run;  // a run: visits of one warp whose sources follow one another
  uint32_t i, j;
};

// A task that is part of one row.
template <uint32_t kTaskVisits>
struct RowTask {
  uint32_t i, first, end;

  RowTask() = default;  // of shared memory
  GK_KERNEL RowTask(const Piece& piece, uint32_t task)
      : i(piece.line.quotient(task)), first((task - i * piece.line.value) * kTaskVisits), end(piece.cols.count) {}

  GK_KERNEL Spot spot(uint32_t turn) const {
    return {turn < kTaskVisits && first + turn < end, turn == 0, i, first + turn};
  }
};

// A task of consecutive visits of narrow rows.
template <uint32_t kTaskVisits>
GK_KERNEL Spot flat_spot(const Piece& piece, uint32_t task, uint32_t turn) {
  const uint32_t n = task * kTaskVisits + turn, i = piece.line.quotient(n);
  return {turn < kTaskVisits && i < piece.rows.count, turn == 0, i, n - i * piece.line.value};
}

// A task of 32 by 4 visits, the longer side one of columns or of rows.
GK_KERNEL Spot tile_spot(const Piece& piece, uint32_t task, uint32_t lane, uint32_t step) {
  const bool tall = piece.order == Order::kTall;
  const uint32_t tile = piece.line.quotient(task);
  const uint32_t along = tile * kWarp + lane, across = (task - tile * piece.line.value) * kSteps + step;
  const uint32_t i = tall ? across : along, j = tall ? along : across;
  return {i < piece.rows.count && j < piece.cols.count, tall ? lane == 0 : step == 0, i, j};
}

// A row visit of a piece.
struct Row {
  const char* source;
  char* target;
  int64_t pitch;  // bytes from one copy to the next
  uint32_t copies;
  // Element of the noise that the first column draws for the first copy and pair; how many further the next copy does.
  uint64_t element, next_elements;

  Row() = default;  // of shared memory
  GK_KERNEL Row(const Piece& piece, const Places& rows, uint32_t i) {
    const Span& span = rows.span;
    if (rows.listed()) {
      const Visit& visit = rows.visit(i);
      set(piece, visit.source * span.source_stride, visit.target * span.target_stride, visit.target);
      pitch = visit.pitch * span.target_stride;
      copies = visit.copies;
      next_elements = uint64_t(visit.pitch * piece.row_elements);
    } else {
      const uint32_t turn = span.group.quotient(i), inside = i - turn * span.group.value;
      set(piece, rows.bytes(turn, inside, span.source_jump, span.source_stride),
          rows.bytes(turn, inside, span.target_jump, span.target_stride),
          int64_t(wide_product(turn, span.copies) * span.group.value + inside));
      pitch = span.pitch;
      copies = span.copies;
      next_elements = uint64_t(piece.copy_elements);
    }
  }

 private:
  GK_KERNEL void set(const Piece& piece, int64_t source_bytes, int64_t target_bytes, int64_t unit) {
    source = piece.source + source_bytes;
    target = piece.target + target_bytes;
    element = piece.origin + uint64_t(unit * piece.row_elements);
  }
};

}  // namespace gk::cuda
