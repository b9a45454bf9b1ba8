// Mistakes with barriers of the block.
#include "kernels.h"
#include "shared_memory.h"

namespace {

float* tile() { return reinterpret_cast<float*>(hessx::shared_memory); }

}  // namespace

extern "C" {

__global__ void read_before_barrier(float* x, float*, int64_t, int64_t) {
  const unsigned i = threadIdx.x;
  tile()[i] = 0;
  __syncthreads();
  tile()[i] = x[i];
  x[i] = tile()[(i + 1) % blockDim.x];
}

__global__ void write_before_barrier(float* x, float*, int64_t, int64_t) {
  const unsigned i = threadIdx.x;
  tile()[i] = x[i];
  __syncthreads();
  const float next = tile()[(i + 1) % blockDim.x];
  tile()[i] = 2 * next;
  x[i] = next;
}

__global__ void barrier_in_branches(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x < 16) {
    x[threadIdx.x] = 1;
    __syncthreads();
  } else {
    x[threadIdx.x] = 2;
    __syncthreads();
  }
}

__global__ void barrier_in_uneven_loop(float* x, float*, int64_t, int64_t) {
  for (unsigned i = threadIdx.x; i < 40; i += blockDim.x) {
    x[i] = 1;
    __syncthreads();
  }
}

__global__ void barrier_after_exit(float* x, float*, int64_t n, int64_t) {
  if (threadIdx.x >= n) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void exit_before_barrier(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x != 0) __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void lanes_wait_for_each_other(float* x, float*, int64_t, int64_t) {
  // Each of two lanes waits for the other one and a third, which never comes.
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) __syncwarp(0x3);
  if (lane == 1) __syncwarp(0x6);
  if (lane == 2) __syncwarp(0x5);
  x[threadIdx.x] = 1;
}

__global__ void barrier_and_shuffle(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    x[threadIdx.x] = __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
  }
}

}  // extern "C"
