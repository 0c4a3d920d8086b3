// The normals themselves, and the mean square that sets their size.
#pragma once

#include "../common/jobs.h"
#include "../common/normal.h"
#include "flat_view.h"
#include "lanes.h"

namespace gk::cuda {

// Each thread makes all four normals of a counter.
struct NormalKernel {
  using Shared = Empty;
  FlatView out;
  int64_t count;
  uint64_t key, field, start;

  int64_t quads() const { return count ? int64_t((start + count - 1) / 4 - start / 4) + 1 : 0; }

  template <class Lanes>
  GK_KERNEL void operator()(Lanes& lanes, Shared&) const {
    const int64_t first = int64_t(start % 4), quads = (first + count + 3) / 4;
    for (int64_t q = lanes.block() * kThreads + lanes.thread(); q < quads; q += lanes.blocks() * kThreads) {
      const Quad normals = normal_quad(key, field, start / 4 + q);
      for (int lane = 0; lane < 4; ++lane) {
        const int64_t e = 4 * q + lane - first;
        if (e >= 0 && e < count) store_as(out.dtype, out.at(e), normals.z[lane]);
      }
    }
  }
};

template <class Machine>
void normal_on(const View& out, uint64_t key, uint64_t field, uint64_t start) {
  const NormalKernel kernel{flat_view(out), out.numel(), key, field, start};
  if (kernel.count) Machine::launch(kernel, (kernel.quads() + kThreads - 1) / kThreads, "normal_");
}

}  // namespace gk::cuda
