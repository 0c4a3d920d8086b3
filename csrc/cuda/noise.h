// The normals themselves, and the mean square that sets their size.
#pragma once

#include "../common/jobs.h"
#include "../common/normal.h"
#include "flat_view.h"
#include "items.h"
#include "lanes.h"

namespace gk::cuda {

// Normals that a block makes with one counter of four a thread, wherever they start.
constexpr int kNormals = 4 * kThreads - 4;

// The normals of elements [e, e + count), each made once by the block's threads, in shared memory: the i-th is at [i]
// of what is returned. `room` has space for count + 4, rounded up to fours.
template <class Lanes>
GK_KERNEL const float* block_normals(Lanes& lanes, float* room, const KeySchedule& key, uint64_t field, uint64_t e,
                                     int count) {
  const int quads = int(e % 4 + count + 3) / 4;
  lanes.sync_block();  // what was in the room has been read
  for (int q = lanes.thread(); q < quads; q += kThreads) {
    const Quad normals = normal_quad(key, field, e / 4 + q);
    GK_UNROLL
    for (int i = 0; i < 4; ++i) room[4 * q + i] = normals.z[i];
  }
  lanes.sync_block();
  return room + e % 4;
}

struct NormalKernel {
  struct Shared {
    alignas(16) float room[kNormals + 4];
  };
  FlatView out;
  int64_t count;
  KeySchedule key;
  uint64_t field, start;

  int64_t tasks() const { return (count + kNormals - 1) / kNormals; }

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const {
    const int item = element_size(out.dtype);
    for (int64_t first = lanes.block() * kNormals; first < count; first += lanes.blocks() * kNormals) {
      const int n = int(count - first < kNormals ? count - first : kNormals);
      const float* z = block_normals(lanes, shared.room, key, field, start + first, n);
      for (int i = lanes.thread(); i < n; i += kThreads) {
        store_item(item, out.at(first + i), item_of<float>(out.dtype, z[i]));
      }
    }
  }
};

template <class Machine>
void normal_on(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  const NormalKernel kernel{flat_view(out), out.numel(), key, field, start};
  if (kernel.count) Machine::launch(kernel, kernel.tasks(), "normal_");
}

}  // namespace gk::cuda
