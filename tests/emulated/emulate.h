// Kernels run by the CPU: every thread of a block is a fiber, so that threads meet as they do on a GPU. Slow; for
// tests.
#pragma once

#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/lanes.h"

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
    return shuffle(value, lane() + distance < kWarp ? lane() + distance : lane());
  }
  template <class T>
  T shuffle_xor(T value, int mask) const {
    return shuffle(value, lane() ^ mask);
  }
  template <class T>
  T first_of_warp(T value) const {
    return shuffle(value, 0);
  }
  uint32_t ballot(bool yes) const {
    std::memcpy(slot(lane()), &yes, sizeof(yes));
    sync_warp();
    uint32_t mask = 0;
    for (int i = 0; i < kWarp; ++i) {
      bool other;
      std::memcpy(&other, slot(i), sizeof(other));
      mask |= uint32_t{other} << i;
    }
    sync_warp();
    return mask;
  }
  uint32_t arrive(uint32_t* count, uint32_t number) const { return std::exchange(*count, *count + number); }

 private:
  template <class T>
  T shuffle(T value, int from) const {
    static_assert(sizeof(T) <= sizeof(double), "a lane hands over one word");
    std::memcpy(slot(lane()), &value, sizeof(T));
    sync_warp();
    std::memcpy(&value, slot(from), sizeof(T));
    sync_warp();
    return value;
  }
  void* slot(int lane) const;

  EmulatedBlock& owner_;
  int64_t block_, blocks_;
  int thread_;
};

// What the kernels did on this thread since it was last cleared, for tests: their names, and the bytes of tensors that
// csrc/cuda/memory.h read and wrote. A GPU refuses addresses that are not aligned, so the emulated launch does too.
struct Traffic {
  std::vector<std::string> launches;
  int64_t read = 0, written = 0;
  bool misaligned = false;

  void note(int64_t& bytes, const void* at, int size) {
    bytes += size;
    misaligned |= reinterpret_cast<uintptr_t>(at) % (size < 16 ? size : 16) != 0;
  }
};
Traffic& traffic();

// What csrc/cuda/machine.h says of a machine, without a GPU.
struct Emulated {
  static constexpr int64_t kPieceVisits = 1 << 12;  // few, so that small tensors are cut too
  class Buffer {
   public:
    explicit Buffer(size_t bytes) : bytes_(bytes, char(0xff)) {}
    void* data() { return bytes_.data(); }

   private:
    std::vector<char> bytes_;
  };

  static void upload(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
  template <class Kernel>
  static void launch(const Kernel& kernel, int64_t wanted, const char* op) {
    traffic().launches.push_back(op);
    const int64_t blocks = wanted < 3 ? wanted : 3;  // few, so that each takes several tasks
    for (int64_t block = 0; block < blocks; ++block) {
      typename Kernel::Shared shared;
      std::memset(static_cast<void*>(&shared), 0xff, sizeof(shared));
      emulate_block(block, blocks, [&](EmulatedLanes& lanes) { kernel(lanes, shared); });
    }
    if (std::exchange(traffic().misaligned, false))
      throw std::runtime_error(std::string(op) + ": an access of the kernel is not aligned");
  }

 private:
  static void emulate_block(int64_t block, int64_t blocks, const std::function<void(EmulatedLanes&)>& body);
};

}  // namespace gk::cuda
