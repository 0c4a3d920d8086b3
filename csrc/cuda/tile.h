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
  kernel.tasks = batch.tasks();
  kernel.pieces = bytes.add(batch.pieces);
  if (batch.listed) kernel.visits = bytes.add(pieces.visits);
  const auto memory = bytes.place<Machine>(kernel.table);
  Machine::launch(kernel, kernel.tasks, Body::kName);
}

template <class Machine, template <class> class Body>
void launch_vectors(const Pieces& pieces, bool drawn) {
  const auto id = [drawn](int source_item, DType target) {
    return TileKernelId{drawn, Taken::kVector, source_item, target};
  };
  launch_tile<Machine, Body<Vectors<2, Float32>>>(pieces, id(2, DType::kFloat32));
  launch_tile<Machine, Body<Vectors<4, Float32>>>(pieces, id(4, DType::kFloat32));
  launch_tile<Machine, Body<Vectors<2, BFloat16>>>(pieces, id(2, DType::kBFloat16));
  launch_tile<Machine, Body<Vectors<4, BFloat16>>>(pieces, id(4, DType::kBFloat16));
  launch_tile<Machine, Body<Vectors<2, Float16>>>(pieces, id(2, DType::kFloat16));
  launch_tile<Machine, Body<Vectors<4, Float16>>>(pieces, id(4, DType::kFloat16));
}

template <class Machine, template <class> class Body>
void launch_elements(const Pieces& pieces, bool drawn) {
  launch_tile<Machine, Body<AnySingle<float>>>(pieces, {drawn, Taken::kElement, 0, {}});
  launch_tile<Machine, Body<AnySingle<double>>>(pieces, {drawn, Taken::kWideElement, 0, {}});
}

template <class Machine>
void tile_on(const std::vector<TileJob>& jobs) {
  const Pieces pieces = cut(jobs, Machine::kPieceVisits);
  launch_vectors<Machine, CleanTile>(pieces, false);
  launch_vectors<Machine, DrawnVectors>(pieces, true);
  launch_tile<Machine, CleanTile<QuickSingle<2>>>(pieces, {false, Taken::kTwoBytes, 0, {}});
  launch_tile<Machine, CleanTile<QuickSingle<4>>>(pieces, {false, Taken::kFourBytes, 0, {}});
  launch_elements<Machine, CleanTile>(pieces, false);
  launch_elements<Machine, DrawnElements>(pieces, true);
}

}  // namespace gk::cuda
