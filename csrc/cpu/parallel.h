// Work shared over torch's own threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace gk {

// Calls work(context) once on each of up to `threads` of torch's threads, and returns when all have returned.
void run_on_threads(int64_t threads, void (*work)(void*), void* context);
int64_t thread_count();

// Elements below which waking another thread costs more than it saves.
constexpr int64_t kSmallWork = 1 << 15;

// Calls unit(i) for each i in [0, units). Threads take the next unit when they are done with one, so units of unequal
// cost level out; which thread takes which leaves no trace in the results. `elements`: size of all units together.
template <class Unit>
void for_each_unit(int64_t units, int64_t elements, const Unit& unit) {
  if (units <= 1 || elements <= kSmallWork || thread_count() == 1) {
    for (int64_t i = 0; i < units; ++i) unit(i);
    return;
  }
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t units;
    const Unit& unit;
  } shared{{0}, units, unit};
  const int64_t threads = thread_count();
  run_on_threads(
      threads < units ? threads : units,
      [](void* context) {
        auto& s = *static_cast<Shared*>(context);
        for (int64_t i = s.next++; i < s.units; i = s.next++) s.unit(i);
      },
      &shared);
}

}  // namespace gk
