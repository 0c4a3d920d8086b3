// The parts of `expand` that memory bounds: mixes of layers, and inner products of all pairs. Dense products are
// torch's.
#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

namespace gk {
namespace {

// Elements of every tensor that are worked on together, in cache; and about how many a unit of work has.
constexpr int64_t kChunk = 1024, kUnit = 16 * kChunk;

template <class Compute>
void load(Compute* values, const View& view, int64_t e, int64_t n) {
  const auto read = loops().compute<Compute>().load[int(view.dtype)];
  for_each_run(view, e, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
    read(values + done, view.at(offset), stride, count);
  });
}

template <class Compute>
void store(const View& view, const Compute* values, int64_t e, int64_t n) {
  const auto write = loops().compute<Compute>().store[int(view.dtype)];
  for_each_run(view, e, n, [&](int64_t offset, int64_t stride, int64_t done, int64_t count) {
    if (stride == 1) {
      write(view.at(offset), values + done, count);
    } else {
      for (int64_t i = 0; i < count; ++i) write(view.at(offset + i * stride), values + done + i, 1);
    }
  });
}

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

template <class Compute>
void mix(const std::vector<View>& outs, const std::vector<View>& sources, const std::vector<Compute>& factors) {
  const int64_t terms = sources.size(), elements = outs[0].numel();
  for_each_chunk(elements, terms + outs.size(), [&](int64_t, int64_t e, int64_t n) {
    thread_local std::vector<Compute> values;
    values.resize((terms + 1) * kChunk);
    for (int64_t k = 0; k < terms; ++k) load(values.data() + k * kChunk, sources[k], e, n);
    Compute* sum = values.data() + terms * kChunk;
    for (size_t l = 0; l < outs.size(); ++l) {
      loops().compute<Compute>().mix(sum, values.data(), kChunk, factors.data() + l * terms, terms, n);
      store(outs[l], sum, e, n);
    }
  });
}

template <class Compute>
void inner_products(const View& out, const std::vector<View>& left, const std::vector<View>& right) {
  const int64_t rows = left.size(), columns = right.size(), pairs = rows * columns, elements = left[0].numel();
  // One row of sums for each unit, so that they do not depend on the threads.
  std::vector<double> sums((elements + kUnit - 1) / kUnit * pairs);
  for_each_chunk(elements, rows + columns, [&](int64_t unit, int64_t e, int64_t n) {
    thread_local std::vector<Compute> values;
    values.resize((rows + columns) * kChunk);
    for (int64_t l = 0; l < rows; ++l) load(values.data() + l * kChunk, left[l], e, n);
    for (int64_t k = 0; k < columns; ++k) load(values.data() + (rows + k) * kChunk, right[k], e, n);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const Compute* x = values.data() + pair / columns * kChunk;
      const Compute* y = values.data() + (rows + pair % columns) * kChunk;
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
