// Races between threads and between blocks.
#include "kernels.h"
#include "shared_memory.h"

extern "C" {

__global__ void one_address_for_all(float* x, float*, int64_t, int64_t) { x[0] = threadIdx.x; }

__global__ void update_across_blocks(float*, float* y, int64_t, int64_t) {
  if (threadIdx.x == 0) y[0] += 1;
}

__global__ void read_across_blocks(float* x, float* y, int64_t n, int64_t) {
  const int64_t i = blockIdx.x * blockDim.x + threadIdx.x;
  x[i] = 1;
  __syncthreads();
  y[i] = x[(i + blockDim.x) % n];
}

__global__ void plain_and_atomic(float*, float* y, int64_t, int64_t) {
  if (threadIdx.x == 0) {
    y[0] = 1;
  } else {
    atomicAdd(y, 1);
  }
}

__global__ void plain_and_atomic_across_blocks(float* x, float* y, int64_t, int64_t) {
  atomicAdd(y, 1);
  __syncthreads();
  if (threadIdx.x == 0) x[blockIdx.x] = y[0];
}

__global__ void neighbouring_bytes_overlap(float* x, float*, int64_t, int64_t) {
  // Each thread has a byte of its own, but one writes two.
  auto* const bytes = hessx::shared_memory;
  bytes[threadIdx.x] = threadIdx.x;
  if (threadIdx.x == 6) *reinterpret_cast<unsigned short*>(bytes + 6) = 0;
  __syncthreads();
  x[threadIdx.x] = bytes[threadIdx.x];
}

}  // extern "C"
