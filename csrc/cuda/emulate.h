// Kernels run by the CPU: every thread of a block is a fiber, so that threads meet as they do on a GPU. Slow; for
// tests.
#pragma once

#include <cstring>
#include <functional>
#include <vector>

#include "lanes.h"

namespace gk::cuda {

class EmulatedBlock;

class EmulatedLanes {
 public:
  EmulatedLanes(EmulatedBlock& owner, int64_t block, int64_t blocks, int thread)
      : owner_(owner), block_(block), blocks_(blocks), thread_(thread) {}

  int64_t block() const { return block_; }
  int64_t blocks() const { return blocks_; }
  int thread() const { return thread_; }
  int lane() const { return thread_ % kWarp; }
  int warp() const { return thread_ / kWarp; }
  void sync_warp() const;
  void sync_block() const;
  template <class T>
  T shuffle_down(T value, int distance) const {
    static_assert(sizeof(T) <= sizeof(double), "a lane hands over one word");
    std::memcpy(slot(lane()), &value, sizeof(T));
    sync_warp();
    T other;
    std::memcpy(&other, slot(lane() + distance < kWarp ? lane() + distance : lane()), sizeof(T));
    sync_warp();
    return other;
  }
  uint32_t arrive(uint32_t* count) const { return (*count)++; }

 private:
  void* slot(int lane) const;

  EmulatedBlock& owner_;
  int64_t block_, blocks_;
  int thread_;
};

// What csrc/cuda/machine.h says of a machine, without a GPU.
struct Emulated {
  class Buffer {
   public:
    explicit Buffer(size_t bytes) : bytes_(bytes, char(0xff)) {}
    void* data() { return bytes_.data(); }

   private:
    std::vector<char> bytes_;
  };

  static void upload(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
  template <class Kernel>
  static void launch(const Kernel& kernel, int64_t wanted, const char*) {
    const int64_t blocks = wanted < 3 ? wanted : 3;  // few, so that each takes several tasks
    for (int64_t block = 0; block < blocks; ++block) {
      typename Kernel::Shared shared;
      std::memset(static_cast<void*>(&shared), 0xff, sizeof(shared));
      emulate_block(block, blocks, [&](EmulatedLanes& lanes) { kernel(lanes, shared); });
    }
  }

 private:
  static void emulate_block(int64_t block, int64_t blocks, const std::function<void(EmulatedLanes&)>& body);
};

}  // namespace gk::cuda
