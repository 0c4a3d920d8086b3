#include "kernels.h"
#include "launch.cuh"
#include "tile.h"

namespace gk {

void cuda::tile(const std::vector<TileJob>& jobs) { tile_on<Gpu>(jobs); }

}  // namespace gk
