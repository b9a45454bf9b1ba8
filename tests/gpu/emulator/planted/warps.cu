// Mistakes with lanes: masks, and memory that only __syncwarp orders.
#include "kernels.h"
#include "shared_memory.h"

namespace {

constexpr unsigned ALL = 0xffffffffu;

float* tile() { return reinterpret_cast<float*>(hessx::shared_memory); }

}  // namespace

extern "C" {

__global__ void caller_not_in_mask(float* x, float*, int64_t, int64_t) {
  x[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);
}

__global__ void exited_lane_in_mask(float* x, float*, int64_t n, int64_t) {
  if (threadIdx.x >= n) return;
  x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
}

__global__ void exit_while_named(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x != 31) x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
}

__global__ void absent_lane_in_mask(float* x, float*, int64_t, int64_t) {
  // Launched with 24 threads.
  x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
}

__global__ void shuffle_from_outside_mask(float* x, float*, int64_t, int64_t) {
  const unsigned mask = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
  x[threadIdx.x] = __shfl_xor_sync(mask, x[threadIdx.x], 16);
}

__global__ void different_masks(float* x, float*, int64_t, int64_t) {
  const unsigned mask = threadIdx.x < 16 ? ALL : 0xfffffff0u;
  x[threadIdx.x] = __shfl_xor_sync(mask | 1u << threadIdx.x, x[threadIdx.x], 1);
}

__global__ void different_functions(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x < 16) {
    x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1);
  } else {
    x[threadIdx.x] = __any_sync(ALL, x[threadIdx.x] > 0);
  }
}

__global__ void odd_width(float* x, float*, int64_t, int64_t) {
  x[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 1, 24);
}

__global__ void warp_without_syncwarp(float* x, float*, int64_t, int64_t) {
  const unsigned lane = threadIdx.x;
  tile()[lane] = x[lane];
  __syncwarp();
  tile()[lane] = 2 * x[lane];
  x[lane] = tile()[(lane + 1) % 32];
}

__global__ void shuffle_orders_nothing(float* x, float*, int64_t, int64_t) {
  const unsigned lane = threadIdx.x;
  tile()[lane] = 0;
  __syncwarp();
  tile()[lane] = x[lane];
  const float sum = __shfl_xor_sync(ALL, x[lane], 1);
  x[lane] = sum + tile()[lane ^ 1];
}

__global__ void syncwarp_of_others(float* x, float*, int64_t, int64_t) {
  // The two halves are ordered each for itself.
  const unsigned lane = threadIdx.x;
  tile()[lane] = 0;
  __syncwarp();
  tile()[lane] = x[lane];
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  x[lane] = tile()[lane ^ 16];
}

__global__ void warps_with_syncwarp(float* x, float*, int64_t, int64_t) {
  // Launched with two warps, which __syncwarp does not order.
  const unsigned i = threadIdx.x;
  tile()[i] = 0;
  __syncthreads();
  tile()[i] = x[i];
  __syncwarp();
  x[i] = tile()[i ^ 32];
}

}  // extern "C"
