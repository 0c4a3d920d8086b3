// torch's thread pool, through its stable C interface.
#include "parallel.h"

#include <torch/csrc/stable/ops.h>

namespace gk {

void run_on_threads(int64_t threads, void (*work)(void*), void* context) {
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) { work(context); });
}

int64_t thread_count() { return torch::stable::get_num_threads(); }

}  // namespace gk
