// Descriptors that a kernel looks up: in its parameters if they are few, so that nothing is allocated; else on the
// device.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "../common/macros.h"

namespace gk::cuda {

// An array of entries somewhere in a table.
template <class Entry>
struct Entries {
  uint32_t offset = 0;
  int32_t count = 0;
};

struct Table {
  static constexpr size_t kNear = 3 << 10;
  const unsigned char* far;
  alignas(16) unsigned char near[kNear];

  template <class Entry>
  GK_INLINE const Entry* at(const Entries<Entry>& entries) const {
    return reinterpret_cast<const Entry*>((far ? far : near) + entries.offset);
  }
  // The entry that a task belongs to: the last whose `first_task` is not after it.
  template <class Entry>
  GK_INLINE const Entry& entry_of(const Entries<Entry>& entries, int64_t task) const {
    const Entry* first = at(entries);
    for (int32_t count = entries.count; count > 1;) {
      const int32_t half = count / 2;
      if (first[half].first_task <= task) first += half;
      count -= half;
    }
    return *first;
  }
};

// A table as the host puts it together.
class TableBytes {
 public:
  template <class Entry>
  Entries<Entry> add(const std::vector<Entry>& entries) {
    static_assert(alignof(Entry) <= 8 && sizeof(Entry) % 8 == 0, "entries of whole words need no padding");
    const auto* first = reinterpret_cast<const unsigned char*>(entries.data());
    const Entries<Entry> placed{uint32_t(bytes_.size()), int32_t(entries.size())};
    bytes_.insert(bytes_.end(), first, first + entries.size() * sizeof(Entry));
    return placed;
  }

  // Makes `table` these bytes. What is returned, if anything, is their memory: to be kept until the launch.
  template <class Machine>
  std::unique_ptr<typename Machine::Buffer> place(Table& table) const {
    if (bytes_.size() <= Table::kNear) {
      table.far = nullptr;
      std::memcpy(table.near, bytes_.data(), bytes_.size());
      return nullptr;
    }
    auto memory = std::make_unique<typename Machine::Buffer>(bytes_.size());
    Machine::upload(memory->data(), bytes_.data(), bytes_.size());
    table.far = static_cast<const unsigned char*>(memory->data());
    return memory;
  }

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace gk::cuda
