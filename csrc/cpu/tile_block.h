// One block of `tile`: a rectangle of visits, small enough for the first caches.
#pragma once

#include <cstdint>

#include "kernels.h"
#include "vector.h"

namespace gk {

// Blocks are one row of this many visits, or as many short rows, where memory runs along rows; else this many rows and
// columns, so that runs down a column are long too.
constexpr int64_t kRowBlock = 2048, kTallRows = 128, kTallColumns = 64, kBlock = kTallRows * kTallColumns;

// A job as blocks see it: with the axes swapped where that makes writes run along memory.
struct TileGeometry {
  const TileJob* job;
  View out, weight;
  const Axis *rows, *cols;
  double noise_std = 0;
  bool swapped = false, streamed = false;
  int64_t block_rows = 1, block_columns = 1;
};

template <class Compute>
void tile_block(const TileGeometry& geometry, const Part& rows, const Part& columns);

}  // namespace gk
