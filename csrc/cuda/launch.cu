#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "launch.cuh"

namespace gk::cuda {
namespace {

// Words in the parameters of one launch: these hold 32 KB from CUDA 12.1 on, 4 KB before, less what else they carry.
#if CUDART_VERSION >= 12010
constexpr size_t kMostWords = (30 << 10) / sizeof(uint64_t);
#else
constexpr size_t kMostWords = (3 << 10) / sizeof(uint64_t);
#endif
// Parameters are copied whole: most uploads are small and should not pay for 30 KB.
constexpr size_t kFewWords = 64;

template <size_t kWords>
struct Parcel {
  uint64_t* to;
  uint32_t size;
  uint64_t words[kWords];
};

// One word a thread: lanes that read parameters at different places take turns.
template <size_t kWords>
__global__ void write(const __grid_constant__ Parcel<kWords> parcel) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < parcel.size) parcel.to[i] = parcel.words[i];
}

template <size_t kWords>
void send(uint64_t* to, const uint64_t* from, size_t words, cudaStream_t stream) {
  Parcel<kWords> parcel;
  for (size_t done = 0; done < words; done += kWords) {
    parcel.to = to + done;
    parcel.size = uint32_t(std::min(words - done, kWords));
    std::memcpy(parcel.words, from + done, parcel.size * sizeof(uint64_t));
    write<<<(parcel.size + kThreads - 1) / kThreads, kThreads, 0, stream>>>(parcel);
  }
}

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  const bool other_gpu = error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction;
  throw std::runtime_error("growkernels: " + what + ": " + cudaGetErrorString(error) +
                           (other_gpu ? "; `growkernels doctor` names the GPUs that the kernels were compiled for, and"
                                        " backend='triton' runs on others"
                                      : ""));
}

}  // namespace

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "current device");
  return device;
}

void upload(void* to, const void* from, size_t bytes) {
  const size_t words = bytes / sizeof(uint64_t);
  const auto send_words = words <= kFewWords ? send<kFewWords> : send<kMostWords>;
  send_words(static_cast<uint64_t*>(to), static_cast<const uint64_t*>(from), words,
             static_cast<cudaStream_t>(current_stream()));
  check_launch("upload of a descriptor table");
}

int64_t resident_blocks(const void* kernel, int64_t wanted, const char* op) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, int64_t> known;
  const int device = current_device();
  const std::lock_guard<std::mutex> lock(mutex);
  int64_t& blocks = known[{device, kernel}];
  if (!blocks) {
    int processors = 0, each = 0;
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), op);
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, kThreads, 0), op);
    blocks = int64_t(processors) * std::max(each, 1);
  }
  return std::max<int64_t>(1, std::min(blocks, wanted));
}

void check_launch(const char* op) { check(cudaGetLastError(), std::string("launch of ") + op); }

}  // namespace gk::cuda
