// The parts of `expand` that memory bounds: mixes of layers, and inner products of all pairs. Dense products are
// torch's.
#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "runs.h"
#include "vector.h"

namespace gk {
namespace {

// Elements of every tensor that are worked on together, in cache; and about how many a unit of work has.
constexpr int64_t kChunk = 1024, kUnit = 16 * kChunk;

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
  memory.resize(count * kChunk + kLine / sizeof(Compute));
  return reinterpret_cast<Compute*>((reinterpret_cast<uintptr_t>(memory.data()) + kLine - 1) & ~(kLine - 1));
}

template <class Compute>
void mix(const std::vector<View>& outs, const std::vector<View>& sources, const std::vector<Compute>& factors) {
  const int64_t terms = sources.size(), elements = outs[0].numel();
  int64_t bytes = 0;
  for (const View& out : outs) bytes += elements * out.item();
  // 24 layers of 2048 x 2048 from 6: 47 -> 31 ms.
  const bool streamed = bytes >= cpu::kStreamBytes;
  constexpr DType kOwn = sizeof(Compute) == sizeof(float) ? DType::kFloat32 : DType::kFloat64;
  const auto& compute = loops().compute<Compute>();
  for_each_chunk(elements, terms + outs.size(), [&](int64_t, int64_t e, int64_t n) {
    Compute* const values = chunks<Compute>(terms);
    alignas(64) Compute sum[kChunk];
    alignas(64) char stored[kChunk * sizeof(Compute)];
    for (int64_t k = 0; k < terms; ++k) load(values + k * kChunk, sources[k], e, n);
    for (size_t l = 0; l < outs.size(); ++l) {
      compute.mix(sum, values, kChunk, factors.data() + l * terms, terms, n);
      const bool exact = outs[l].dtype == kOwn;
      if (!exact) compute.store[int(outs[l].dtype)](stored, sum, n);
      write(outs[l], e, n, exact ? static_cast<const void*>(sum) : stored, streamed);
    }
    if (streamed) loops().fence();
  });
}

template <class Compute>
void inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  const int64_t rows = left.size(), columns = right.size(), pairs = rows * columns, elements = left[0].numel();
  // One row of sums for each unit, so that they do not depend on the threads.
  std::vector<double> sums((elements + kUnit - 1) / kUnit * pairs);
  for_each_chunk(elements, rows + columns, [&](int64_t unit, int64_t e, int64_t n) {
    Compute* const values = chunks<Compute>(rows + columns);
    for (int64_t l = 0; l < rows; ++l) load(values + l * kChunk, left[l], e, n);
    for (int64_t k = 0; k < columns; ++k) load(values + (rows + k) * kChunk, right[k], e, n);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const Compute* x = values + pair / columns * kChunk;
      const Compute* y = values + (rows + pair % columns) * kChunk;
      sums[unit * pairs + pair] += loops().compute<Compute>().dot(x, y, n);
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
