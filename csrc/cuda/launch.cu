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

// What the parameters of one launch hold: 32 KB from CUDA 12.1 on, less what else they carry.
struct Parcel {
  static constexpr size_t kBytes = 30 << 10;
  char* to;
  uint32_t size;
  alignas(16) char bytes[kBytes];
};

__global__ void write(const __grid_constant__ Parcel parcel) {
  for (uint32_t i = threadIdx.x; i < parcel.size; i += blockDim.x) parcel.to[i] = parcel.bytes[i];
}

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error("growkernels: " + what + ": " + cudaGetErrorString(error));
}

}  // namespace

void upload(void* to, const void* from, size_t bytes) {
  const auto stream = static_cast<cudaStream_t>(current_stream());
  Parcel parcel;
  for (size_t done = 0; done < bytes; done += Parcel::kBytes) {
    parcel.to = static_cast<char*>(to) + done;
    parcel.size = uint32_t(std::min(bytes - done, Parcel::kBytes));
    std::memcpy(parcel.bytes, static_cast<const char*>(from) + done, parcel.size);
    write<<<1, 1024, 0, stream>>>(parcel);
  }
  check_launch("upload of a descriptor table");
}

int64_t resident_blocks(const void* kernel, int64_t wanted) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, int64_t> known;
  int device = 0;
  check(cudaGetDevice(&device), "current device");
  const std::lock_guard<std::mutex> lock(mutex);
  int64_t& blocks = known[{device, kernel}];
  if (!blocks) {
    int processors = 0, each = 0;
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "number of processors");
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, kThreads, 0), "occupancy");
    blocks = int64_t(processors) * std::max(each, 1);
  }
  return std::max<int64_t>(1, std::min(blocks, wanted));
}

void check_launch(const char* op) { check(cudaGetLastError(), std::string("launch of ") + op); }

}  // namespace gk::cuda
