// `tile`: the width rule. The source is cut into blocks of visits; a block is read once and written to all its copies.
#include <algorithm>

#include "parallel.h"
#include "tile_block.h"

namespace gk {
namespace {

// About how many elements a unit of work writes.
constexpr int64_t kUnit = 1 << 17;

View transposed(const View& view) {
  return {view.data, view.dtype, {view.sizes[1], view.sizes[0]}, {view.strides[1], view.strides[0]}};
}

// A job and how it is cut into units.
struct Cut {
  TileGeometry geometry;
  int64_t row_visits, column_visits, row_units, column_units;
  // Neighbors in memory are worked on one after the other: they share pages.
  bool down_columns;
  int64_t units() const { return row_units * column_units; }
};

Cut cut(const TileJob& job, bool streamed) {
  Cut result{{&job, job.out, job.weight, &job.rows, &job.cols}, 0, 0, 0, 0, false};
  TileGeometry& g = result.geometry;
  // Noise runs along rows; without it the axes may change places so that writes run along memory.
  g.swapped = !job.draws_normals() && g.out.strides[0] < g.out.strides[1] && g.out.sizes[0] > 1;
  if (g.swapped) {
    g.out = transposed(g.out);
    g.weight = transposed(g.weight);
    std::swap(g.rows, g.cols);
  }
  g.noise_std = job.takes_noise() ? noise_std(job.numbers) : 0;
  g.streamed = streamed && g.noise_std == 0;
  const bool along_rows =
      (g.out.strides[1] == 1 || g.out.sizes[1] <= 1) && (g.weight.strides[1] == 1 || g.weight.sizes[1] <= 1);
  const int64_t columns = g.cols->visits(), rows = g.rows->visits();
  const int64_t copies = std::max<int64_t>(1, job.out.numel() / std::max<int64_t>(1, rows * columns));
  const int64_t tall_columns = g.out.strides[1] > g.out.strides[0] ? kTallColumns : kBlock / kTallColumns;
  g.block_columns = std::max<int64_t>(1, std::min<int64_t>(columns, along_rows ? kRowBlock : tall_columns));
  g.block_rows = along_rows ? std::max<int64_t>(1, kRowBlock / g.block_columns) : kBlock / tall_columns;
  const auto whole = [](int64_t wanted, int64_t block) { return std::max<int64_t>(1, wanted / block) * block; };
  result.down_columns = g.out.strides[1] > g.out.strides[0];
  result.column_visits =
      result.down_columns ? g.block_columns : whole(std::min<int64_t>(columns, 1 << 14), g.block_columns);
  result.row_visits = whole(kUnit / copies / result.column_visits, g.block_rows);
  if (job.out.numel()) {
    result.row_units = (rows + result.row_visits - 1) / result.row_visits;
    result.column_units = (columns + result.column_visits - 1) / result.column_visits;
  }
  return result;
}

void run_unit(const Cut& cut, int64_t unit) {
  const TileGeometry& g = cut.geometry;
  const int64_t row_unit = cut.down_columns ? unit % cut.row_units : unit / cut.column_units;
  const int64_t column_unit = cut.down_columns ? unit / cut.row_units : unit % cut.column_units;
  const int64_t row = row_unit * cut.row_visits, column = column_unit * cut.column_visits;
  const int64_t row_end = std::min(row + cut.row_visits, g.rows->visits());
  const int64_t column_end = std::min(column + cut.column_visits, g.cols->visits());
  const bool wide = computes_in_double(g.out.dtype, g.weight.dtype);
  const auto block = wide ? tile_block<double> : tile_block<float>;
  for (int64_t r = row; r < row_end; r += g.block_rows) {
    g.rows->for_each_part(r, std::min(r + g.block_rows, row_end), [&](const Part& rows) {
      for (int64_t c = column; c < column_end; c += g.block_columns) {
        g.cols->for_each_part(c, std::min(c + g.block_columns, column_end),
                              [&](const Part& columns) { block(g, rows, columns); });
      }
    });
  }
  if (g.streamed) loops().fence();
}

}  // namespace

void cpu::tile(const std::vector<TileJob>& jobs) {
  int64_t elements = 0, bytes = 0;
  for (const TileJob& job : jobs) {
    elements += job.out.numel();
    bytes += job.out.numel() * job.out.item();
  }
  std::vector<Cut> cuts;
  std::vector<int64_t> first_unit{0};
  for (const TileJob& job : jobs) {
    cuts.push_back(cut(job, bytes >= cpu::kStreamBytes));
    first_unit.push_back(first_unit.back() + cuts.back().units());
  }
  for_each_unit(first_unit.back(), elements, [&](int64_t unit) {
    const size_t i = std::upper_bound(first_unit.begin(), first_unit.end(), unit) - first_unit.begin() - 1;
    run_unit(cuts[i], unit - first_unit[i]);
  });
}

}  // namespace gk
