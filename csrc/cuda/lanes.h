// Where a thread of a GPU kernel is, and how it meets the others. `Lanes` on a GPU; tests/emulated/emulate.h has the
// CPU's.
//
// A kernel is a trivially copyable struct of parameters with
//
//   using Shared = ...;                                    the block's shared memory
//   template <class Lanes> GK_KERNEL void operator()(Lanes& lanes, Shared& shared) const;
//
// which every thread of every block runs to its end: no thread may leave before a meeting of its warp or block.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../common/macros.h"

#if defined(__CUDACC__)
#define GK_KERNEL __device__ __forceinline__
#define GK_UNROLL _Pragma("unroll")
#define GK_ROLLED _Pragma("unroll 1")
#else
#define GK_KERNEL inline
#define GK_UNROLL
#define GK_ROLLED
#endif

namespace gk::cuda {

constexpr int kWarp = 32, kWarps = 8, kThreads = kWarp * kWarps;

struct Empty {};

GK_KERNEL int count_bits(uint32_t mask) {
#if defined(__CUDACC__)
  return __popc(mask);
#else
  return __builtin_popcount(mask);
#endif
}

#if defined(__CUDACC__)

struct Lanes {
  __device__ __forceinline__ int64_t block() const { return blockIdx.x; }
  __device__ __forceinline__ int64_t blocks() const { return gridDim.x; }
  __device__ __forceinline__ int thread() const { return threadIdx.x; }
  __device__ __forceinline__ int lane() const { return threadIdx.x % kWarp; }
  __device__ __forceinline__ int warp() const { return threadIdx.x / kWarp; }
  __device__ __forceinline__ void sync_warp() const { __syncwarp(); }
  __device__ __forceinline__ void sync_block() const { __syncthreads(); }
  template <class T>
  __device__ __forceinline__ T shuffle_down(T value, int distance) const {
    return __shfl_down_sync(0xffffffffu, value, distance);
  }
  // The value of the lane whose number differs in the bits of `mask`.
  template <class T>
  __device__ __forceinline__ T shuffle_xor(T value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
  // Bit l: whether lane l says yes.
  __device__ __forceinline__ uint32_t ballot(bool yes) const { return __ballot_sync(0xffffffffu, yes); }
  // The value of the warp's first lane.
  template <class T>
  __device__ __forceinline__ T first_of_warp(T value) const {
    return __shfl_sync(0xffffffffu, value, 0);
  }
  // Adds to a count, and returns what it was. What was written before is seen by whoever sees the sum.
  __device__ __forceinline__ uint32_t arrive(uint32_t* count, uint32_t number) const {
    __threadfence();
    const uint32_t before = atomicAdd(count, number);
    __threadfence();
    return before;
  }
};

// How many blocks a processor is to hold at once, if a kernel says so: that bounds the registers of its threads.
template <class Kernel, class = void>
constexpr int kBlocks = 0;
template <class Kernel>
constexpr int kBlocks<Kernel, std::void_t<decltype(Kernel::kBlocks)>> = Kernel::kBlocks;

template <class Kernel>
__global__ void __launch_bounds__(kThreads, kBlocks<Kernel>) run(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  Lanes lanes;
  kernel(lanes, shared);
}

#endif

}  // namespace gk::cuda
