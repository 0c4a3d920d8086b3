#include "emulate.h"

#include <memory>
#include <stdexcept>

#if defined(__linux__)
#include <ucontext.h>
#endif

namespace gk::cuda {

Traffic& traffic() {
  static thread_local Traffic traffic;
  return traffic;
}

#if defined(__linux__)

// A meeting of `size` fibers, again and again.
struct Meeting {
  int size, arrived = 0;
  int64_t held = 0;
};

class EmulatedBlock {
 public:
  EmulatedBlock(int64_t block, int64_t blocks, const std::function<void(EmulatedLanes&)>& body)
      : body_(body), fibers_(kThreads), done_(kThreads, false) {
    if (!stacks_) stacks_.reset(new char[kThreads * kStack]);
    for (int thread = 0; thread < kThreads; ++thread) lanes_.emplace_back(*this, block, blocks, thread);
    for (int warp = 0; warp < kWarps; ++warp) warps_.push_back({kWarp});
  }

  // Fibers take turns, each from one meeting to the next; in every other block the last begins, so that what one thread
  // needs of another before they meet is missed in one of them, whichever is first.
  void run(bool backward) {
    for (int thread = 0; thread < kThreads; ++thread) {
      ucontext_t& fiber = fibers_[thread];
      getcontext(&fiber);
      fiber.uc_stack.ss_sp = stacks_.get() + thread * kStack;
      fiber.uc_stack.ss_size = kStack;
      fiber.uc_link = &home_;
      makecontext(&fiber, reinterpret_cast<void (*)()>(&EmulatedBlock::enter), 0);
    }
    for (int left = kThreads; left;) {
      left = 0;
      for (int turn = 0; turn < kThreads; ++turn) {
        current_ = backward ? kThreads - 1 - turn : turn;
        if (done_[current_]) continue;
        active_ = this;
        swapcontext(&home_, &fibers_[current_]);
        left += !done_[current_];
      }
    }
  }

  void meet(Meeting& meeting) {
    const int64_t turn = meeting.held;
    if (++meeting.arrived == meeting.size) {
      meeting.arrived = 0;
      ++meeting.held;
    }
    while (meeting.held == turn) swapcontext(&fibers_[current_], &home_);
  }
  Meeting& warp(int index) { return warps_[index]; }
  Meeting& block() { return block_; }
  void* slot(int thread) { return &slots_[thread]; }

 private:
  static constexpr size_t kStack = 1 << 16;

  static void enter() {
    EmulatedBlock& self = *active_;
    const int thread = self.current_;
    self.body_(self.lanes_[thread]);
    self.done_[thread] = true;
  }

  static thread_local EmulatedBlock* active_;
  static thread_local std::unique_ptr<char[]> stacks_;  // kept: most of it is never touched
  const std::function<void(EmulatedLanes&)>& body_;
  std::vector<ucontext_t> fibers_;
  std::vector<bool> done_;
  std::vector<EmulatedLanes> lanes_;
  std::vector<Meeting> warps_;
  Meeting block_{kThreads};
  double slots_[kThreads];
  ucontext_t home_;
  int current_ = 0;
};

thread_local EmulatedBlock* EmulatedBlock::active_ = nullptr;
thread_local std::unique_ptr<char[]> EmulatedBlock::stacks_;

void EmulatedLanes::sync_warp() const { owner_.meet(owner_.warp(warp())); }
void EmulatedLanes::sync_block() const { owner_.meet(owner_.block()); }
void* EmulatedLanes::slot(int lane) const { return owner_.slot(warp() * kWarp + lane); }

void Emulated::emulate_block(int64_t block, int64_t blocks, const std::function<void(EmulatedLanes&)>& body) {
  EmulatedBlock(block, blocks, body).run(block % 2 != 0);
}

#else

void EmulatedLanes::sync_warp() const {}
void EmulatedLanes::sync_block() const {}
void* EmulatedLanes::slot(int) const { return nullptr; }

void Emulated::emulate_block(int64_t, int64_t, const std::function<void(EmulatedLanes&)>&) {
  throw std::runtime_error("the CUDA kernels are emulated on Linux only");
}

#endif

}  // namespace gk::cuda
