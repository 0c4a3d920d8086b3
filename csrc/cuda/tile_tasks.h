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

template <bool kVectors, uint32_t kTaskVisits>
GK_KERNEL Spot locate(const Piece& piece, const Places& cols, uint32_t task, uint32_t lane, uint32_t step) {
  const uint32_t turn = step * kWarp + lane;
  Spot spot;
  if (piece.order == Order::kRows) {
    spot.i = piece.line.quotient(task);
    spot.j = (task - spot.i * piece.line.value) * kTaskVisits + turn;
    spot.inside = turn < kTaskVisits && spot.j < cols.span.count;
    spot.starts_run = turn == 0;
  } else if (kVectors || piece.order == Order::kFlat) {
    const uint32_t n = task * kTaskVisits + turn;
    spot.i = piece.line.quotient(n);
    spot.j = n - spot.i * piece.line.value;
    spot.inside = turn < kTaskVisits && spot.i < piece.rows.count;
    spot.starts_run = turn == 0;
  } else {
    const bool tall = piece.order == Order::kTall;
    const uint32_t tile = piece.line.quotient(task);
    const uint32_t along = tile * kWarp + lane, across = (task - tile * piece.line.value) * kSteps + step;
    spot.i = tall ? across : along;
    spot.j = tall ? along : across;
    spot.inside = spot.i < piece.rows.count && spot.j < cols.span.count;
    spot.starts_run = tall ? lane == 0 : step == 0;
  }
  if (!kVectors && spot.inside) spot.starts_run |= cols.starts_run(spot.j);
  return spot;
}

// A row visit of a piece.
struct Row {
  const char* source;
  char* target;
  int64_t pitch;  // bytes from one copy to the next
  uint32_t copies;

  Row() = default;
  GK_KERNEL Row(const Piece& piece, const Places& rows, uint32_t i)
      : source(piece.source + rows.source_bytes(i)),
        target(piece.target + rows.target_bytes(i)),
        pitch(rows.pitch_bytes(i)),
        copies(rows.copies(i)) {}
};

}  // namespace gk::cuda
