// The parts of `expand` that memory bounds: mixes of layers, and inner products of all pairs. Dense products are
// torch's.
#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "runs.h"
#include "vector.h"

namespace gk {
namespace {

// About how many elements of every tensor a unit of work has; those that are read together, which stay in the second
// cache (24 sources of 2048 x 2048 took 45 ms to read in pieces of 4 KB, 29 in pieces of 16 KB), a little more apart,
// as they would share few places in the first; and those that are worked on together.
constexpr int64_t kUnit = 1 << 14, kChunk = 1 << 12, kPitch = kChunk + 32, kBlock = 1 << 10;
// Bytes of sources that a mix reads again for every target: what stays in the first cache.
constexpr int64_t kNear = 24 << 10;
// Bytes of results that a mix writes past the caches: a panel's are a part of what is written (12 layers of 512 x 256,
// cold: 1.0 -> 0.6 ms beside the 8 MB of whole tensors).
constexpr int64_t kStreamBytes = cpu::kStreamBytes / 4;

// The numbers of a table, row by row.
template <class Compute>
std::vector<Compute> numbers(const View& table) {
  std::vector<Compute> result;
  for (int64_t row = 0; row < table.sizes[0]; ++row) {
    for (int64_t column = 0; column < table.sizes[1]; ++column) {
      const int64_t offset = row * table.strides[0] + column * table.strides[1];
      result.push_back(load_as<Compute>(table.dtype, table.at(offset)));
    }
  }
  return result;
}

// Calls chunk(unit, e, n) for chunks of `elements`, units of them shared over threads; `tensors` take part in each.
template <class Chunk>
void for_each_chunk(int64_t elements, int64_t tensors, const Chunk& chunk) {
  for_each_unit((elements + kUnit - 1) / kUnit, elements * tensors, [&](int64_t unit) {
    const int64_t last = std::min((unit + 1) * kUnit, elements);
    for (int64_t e = unit * kUnit; e < last; e += kChunk) chunk(unit, e, std::min(kChunk, last - e));
  });
}

// Memory of this thread for `count` chunks, each beginning a cache line: vectors that reach over two take twice as long
// (24 layers of 2048 x 2048 from 6: 27 -> 20 ms).
template <class Compute>
Compute* chunks(int64_t count) {
  constexpr uintptr_t kLine = 64;
  thread_local std::vector<Compute> memory;
  memory.resize(count * kPitch + kLine / sizeof(Compute));
  return reinterpret_cast<Compute*>((reinterpret_cast<uintptr_t>(memory.data()) + kLine - 1) & ~(kLine - 1));
}

template <class Compute>
void mix(const std::vector<View>& outs, const std::vector<View>& sources, const std::vector<Compute>& factors) {
  const int64_t terms = sources.size(), elements = outs[0].numel();
  int64_t bytes = 0;
  for (const View& out : outs) bytes += elements * out.item();
  // 24 layers of 2048 x 2048 from 6: 47 -> 31 ms.
  const bool streamed = bytes >= kStreamBytes;
  const int64_t fits = kNear / int64_t(sizeof(Compute)) / terms / kSumLanes * kSumLanes;
  const int64_t block = std::min(kBlock, std::max(kBlock / 8, fits));
  constexpr DType kOwn = sizeof(Compute) == sizeof(float) ? DType::kFloat32 : DType::kFloat64;
  const auto& compute = loops().compute<Compute>();
  for_each_chunk(elements, terms + outs.size(), [&](int64_t, int64_t e, int64_t n) {
    Compute* const values = chunks<Compute>(terms);
    alignas(64) Compute sum[kBlock];
    alignas(64) char stored[kBlock * sizeof(Compute)];
    for (int64_t k = 0; k < terms; ++k) load(values + k * kPitch, sources[k], e, n);
    for (int64_t first = 0; first < n; first += block) {
      const int64_t count = std::min(block, n - first);
      for (size_t l = 0; l < outs.size(); ++l) {
        compute.mix(sum, values + first, kPitch, factors.data() + l * terms, terms, count);
        const bool exact = outs[l].dtype == kOwn;
        if (!exact) compute.store[int(outs[l].dtype)](stored, sum, count);
        write(outs[l], e + first, count, exact ? static_cast<const void*>(sum) : stored, streamed);
      }
    }
    if (streamed) loops().fence();
  });
}

template <class Compute>
void inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  const int64_t rows = left.size(), columns = right.size(), pairs = rows * columns, elements = left[0].numel();
  // One row of sums for each unit, so that they do not depend on the threads.
  std::vector<double> sums((elements + kUnit - 1) / kUnit * pairs);
  const auto& compute = loops().compute<Compute>();
  for_each_chunk(elements, rows + columns, [&](int64_t unit, int64_t e, int64_t n) {
    Compute* const values = chunks<Compute>(rows + columns);
    for (int64_t l = 0; l < rows; ++l) load(values + l * kPitch, left[l], e, n);
    for (int64_t k = 0; k < columns; ++k) load(values + (rows + k) * kPitch, right[k], e, n);
    for (int64_t first = 0; first < n; first += kBlock) {
      const Compute* const block = values + first;
      const int64_t count = std::min(kBlock, n - first);
      for (int64_t l = 0; l < rows; l += kDotRows) {
        const int64_t together = std::min<int64_t>(kDotRows, rows - l);
        for (int64_t k = 0; k < columns; ++k) {
          double* const of_pairs = sums.data() + unit * pairs + l * columns + k;
          compute.dot(of_pairs, columns, block + l * kPitch, kPitch, together, block + (rows + k) * kPitch, count);
        }
      }
    }
  });
  for (int64_t pair = 0; pair < pairs; ++pair) {
    char* where = out.at(pair / columns * out.strides[0] + pair % columns * out.strides[1]);
    double total = 0;
    for (size_t i = pair; i < sums.size(); i += pairs) total += sums[i];
    store_as(out.dtype, where, load_as<double>(out.dtype, where) + total);
  }
}

}  // namespace

void cpu::mix(const std::vector<View>& outs, const std::vector<View>& sources, const View& coefficients) {
  const std::vector<View> targets = walked(outs, outs[0]), terms = walked(sources, outs[0]);
  if (computes_in_double(outs, sources) || coefficients.dtype == DType::kFloat64) {
    gk::mix(targets, terms, numbers<double>(coefficients));
  } else {
    gk::mix(targets, terms, numbers<float>(coefficients));
  }
}

void cpu::inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  const std::vector<View> first = walked(left, left[0]), second = walked(right, left[0]);
  if (computes_in_double(left, right)) {
    gk::inner_products<double>(out, first, second);
  } else {
    gk::inner_products<float>(out, first, second);
  }
}

}  // namespace gk
