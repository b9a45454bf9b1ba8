// Stray, misaligned and uninitialised accesses.
#include "kernels.h"
#include "shared_memory.h"

namespace {

float* tile() { return reinterpret_cast<float*>(hessx::shared_memory); }

// Not to be turned into a loop.
__attribute__((noinline)) float deep(float* x, int64_t n) {
  float local[64];
  for (int i = 0; i < 64; ++i) local[i] = x[0] + i;
  return n == 0 ? local[1] : deep(local, n - 1) + local[n % 64];
}

}  // namespace

extern "C" {

__global__ void load_one_past(float* x, float* y, int64_t n, int64_t) {
  const int64_t i = threadIdx.x;
  if (i <= n) y[0] = x[n];
}

__global__ void store_one_past(float* x, float*, int64_t n, int64_t) {
  for (int64_t i = threadIdx.x; i <= n; i += blockDim.x) x[i] = 1;
}

__global__ void store_one_before(float* x, float*, int64_t, int64_t) {
  x[static_cast<int64_t>(threadIdx.x) - 1] = 1;
}

__global__ void load_null(float* x, float*, int64_t, int64_t) {
  x[0] = *reinterpret_cast<volatile float*>(8);
}

__global__ void shared_one_past(float* x, float*, int64_t, int64_t) {
  tile()[threadIdx.x + 1] = x[threadIdx.x];
}

__global__ void static_shared_one_past(float* x, float*, int64_t, int64_t) {
  __shared__ float values[32];
  values[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = values[31 - threadIdx.x];
}

__global__ void local_array_one_past(float* x, float*, int64_t n, int64_t) {
  float values[4];
  for (int i = 0; i <= n; ++i) values[i] = x[i];
  x[threadIdx.x] = values[n - 1];
}

__global__ void stack_of_another_thread(float* x, float* y, int64_t, int64_t) {
  float mine = x[threadIdx.x];
  auto** const shared = reinterpret_cast<float**>(hessx::shared_memory);
  if (threadIdx.x == 0) *shared = &mine;
  __syncthreads();
  y[threadIdx.x] = **shared;
}

__global__ void memcpy_one_past(float* x, float* y, int64_t n, int64_t) {
  if (threadIdx.x == 0) memcpy(y, x, (n + 1) * sizeof(float));
}

__global__ void shared_not_written(float* x, float*, int64_t, int64_t) {
  if (threadIdx.x != 7) tile()[threadIdx.x] = 0;
  __syncthreads();
  x[threadIdx.x] = tile()[threadIdx.x];
}

__global__ void static_shared_not_written(float* x, float*, int64_t, int64_t) {
  __shared__ float sum;
  __syncthreads();
  if (threadIdx.x == 0) x[0] = sum;
}

__global__ void shared_counter_not_set(float* x, float*, int64_t, int64_t) {
  __shared__ int count;
  atomicAdd(&count, 1);
  __syncthreads();
  x[threadIdx.x] = count;
}

__global__ void misaligned_float4(float* x, float* y, int64_t, int64_t) {
  *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(x + 1);
}

__global__ void misaligned_double(float* x, float* y, int64_t, int64_t) {
  y[threadIdx.x] = *reinterpret_cast<double*>(x + 1);
}

__global__ void stack_overflow(float* x, float* y, int64_t n, int64_t) {
  y[threadIdx.x] = deep(x, n);
}

__global__ void endless_loop(float* x, float*, int64_t n, int64_t) {
  for (int64_t i = 0; i != 2 * n + 1; i += 2) x[threadIdx.x] += 1;
}

__global__ void endless_spin(float*, float* y, int64_t, int64_t) {
  while (atomicAdd(reinterpret_cast<int*>(y), 0) != 7) {
  }
}

}  // extern "C"
