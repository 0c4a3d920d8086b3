// `tile`: the width rule. Each kernel that is needed is launched once, for all pieces of all targets.
#pragma once

#include <vector>

#include "tile_drawn.h"

namespace gk::cuda {

// One launch, if the kernel has pieces.
template <class Machine, class Body>
void launch_tile(const Pieces& pieces, const TileKernelId& id) {
  const Batch& batch = pieces.batches[id.index()];
  if (batch.pieces.empty()) return;
  TableBytes bytes;
  TileKernel<Body> kernel;
  static_assert(sizeof(kernel) <= 4096, "parameters of a kernel");
  kernel.tasks = batch.tasks();
  kernel.pieces = bytes.add(batch.pieces);
  if (batch.listed) kernel.visits = bytes.add(pieces.visits);
  const auto memory = bytes.place<Machine>(kernel.table);
  Machine::launch(kernel, kernel.tasks, Body::kName);
}

template <class Machine, template <class> class OfVectors, template <class> class OfElements>
void launch_tiles(const Pieces& pieces, bool drawn) {
  launch_tile<Machine, OfVectors<Vectors<2, Float32>>>(pieces, {drawn, true, 2, DType::kFloat32, false});
  launch_tile<Machine, OfVectors<Vectors<4, Float32>>>(pieces, {drawn, true, 4, DType::kFloat32, false});
  launch_tile<Machine, OfVectors<Vectors<2, BFloat16>>>(pieces, {drawn, true, 2, DType::kBFloat16, false});
  launch_tile<Machine, OfVectors<Vectors<4, BFloat16>>>(pieces, {drawn, true, 4, DType::kBFloat16, false});
  launch_tile<Machine, OfVectors<Vectors<2, Float16>>>(pieces, {drawn, true, 2, DType::kFloat16, false});
  launch_tile<Machine, OfVectors<Vectors<4, Float16>>>(pieces, {drawn, true, 4, DType::kFloat16, false});
  launch_tile<Machine, OfElements<Single<float>>>(pieces, {drawn, false, 0, {}, false});
  launch_tile<Machine, OfElements<Single<double>>>(pieces, {drawn, false, 0, {}, true});
}

template <class Machine>
void tile_on(const std::vector<TileJob>& jobs) {
  const Pieces pieces = cut(jobs, Machine::kPieceVisits);
  launch_tiles<Machine, CleanTile, CleanTile>(pieces, false);
  launch_tiles<Machine, DrawnVectors, DrawnElements>(pieces, true);
}

}  // namespace gk::cuda
