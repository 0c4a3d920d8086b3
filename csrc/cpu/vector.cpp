// Which of the compiled inner loops run.
#include "vector.h"

#include <atomic>
#include <cstring>

namespace gk {

namespace scalar {
extern const Loops kLoops;
}
#if defined(GK_X86)
namespace avx2 {
extern const Loops kLoops;
}
namespace avx512 {
extern const Loops kLoops;
}
#endif

namespace {

const Loops* find(const char* name) {
  const auto wanted = [name](const char* isa) { return !name || !std::strcmp(name, isa); };
#if defined(GK_X86)
  __builtin_cpu_init();  // this runs before main
  const bool bmi = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (wanted("avx512") && bmi && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return &avx512::kLoops;
  }
  if (wanted("avx2") && bmi && __builtin_cpu_supports("avx2")) return &avx2::kLoops;
#endif
  return wanted("scalar") ? &scalar::kLoops : nullptr;
}

std::atomic<const Loops*> active{find(nullptr)};

}  // namespace

const Loops& loops() { return *active.load(std::memory_order_relaxed); }

bool force_loops(const char* name) {
  const Loops* found = find(name);
  if (found) active.store(found, std::memory_order_relaxed);
  return found != nullptr;
}

}  // namespace gk
