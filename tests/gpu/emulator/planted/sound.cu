// Kernels without mistakes, in which an emulator could see some.
#include "kernels.h"
#include "shared_memory.h"

namespace {

constexpr unsigned ALL = 0xffffffffu;

float* tile() { return reinterpret_cast<float*>(hessx::shared_memory); }

template <class T>
T warp_sum(T value) {
  for (int shift = 16; shift > 0; shift /= 2) value += __shfl_down_sync(ALL, value, shift);
  return value;
}

}  // namespace

extern "C" {

// y[block] is the sum of a block's elements of x.
__global__ void block_sum(float* x, float* y, int64_t n, int64_t stride) {
  __shared__ double partial[32];
  double sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) sum += x[i * stride];
  sum = warp_sum(sum);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = warp_sum(lane < blockDim.x / 32 ? partial[lane] : 0.0);
    if (lane == 0) y[blockIdx.x] = sum;
  }
}

// Inclusive sums within segments of 16 lanes.
__global__ void warp_scan(float* x, float* y, int64_t, int64_t) {
  const int lane = threadIdx.x % 16;
  float value = x[threadIdx.x];
  for (int shift = 1; shift < 16; shift *= 2) {
    const float left = __shfl_up_sync(ALL, value, shift, 16);
    if (lane >= shift) value += left;
  }
  y[threadIdx.x] = value;
}

// Walsh-Hadamard transform of n elements in shared memory, by n / 2 threads.
__global__ void hadamard(float* x, float* y, int64_t n, int64_t) {
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) tile()[i] = x[i];
  __syncthreads();
  for (int64_t half = 1; half < n; half *= 2) {
    const int64_t i = threadIdx.x / half * 2 * half + threadIdx.x % half;
    const float a = tile()[i], b = tile()[i + half];
    tile()[i] = a + b;
    tile()[i + half] = a - b;
    __syncthreads();
  }
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) y[i] = tile()[i];
}

// y, as integers, counts the elements of x by value, through counts in shared memory.
__global__ void histogram(float* x, float* y, int64_t n, int64_t) {
  constexpr int BINS = 8;
  __shared__ int counts[BINS];
  if (threadIdx.x < BINS) counts[threadIdx.x] = 0;
  __syncthreads();
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&counts[static_cast<int>(x[i])], 1);
  }
  __syncthreads();
  if (threadIdx.x < BINS) atomicAdd(reinterpret_cast<int*>(y) + threadIdx.x, counts[threadIdx.x]);
}

__global__ void copy_float4(float* x, float* y, int64_t n, int64_t) {
  const auto* const from = reinterpret_cast<const float4*>(x);
  auto* const to = reinterpret_cast<float4*>(y);
  for (int64_t i = threadIdx.x; i < n / 4; i += blockDim.x) {
    const float4 value = from[i];
    to[i] = make_float4(value.x, value.y, value.z, value.w);
  }
}

// Each thread copies one element; the gaps between those of x are not touched.
__global__ void strided_copy(float* x, float* y, int64_t n, int64_t stride) {
  const int64_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i * stride];
}

__global__ void votes(float* x, float* y, int64_t n, int64_t) {
  const bool mine = x[threadIdx.x] > 0;
  const unsigned positive = __ballot_sync(ALL, mine);
  const int all = __all_sync(ALL, mine), any = __any_sync(ALL, mine);
  const int count = __syncthreads_count(mine);
  const int some = __syncthreads_or(threadIdx.x == n), each = __syncthreads_and(threadIdx.x < n);
  y[threadIdx.x] =
      __popc(positive) + 100 * all + 200 * any + 1000 * count + 1e5f * some + 2e5f * each;
}

// Lanes exchange by shared memory, ordered by __syncwarp alone, and halves for themselves.
__global__ void warp_transpose(float* x, float* y, int64_t, int64_t) {
  const unsigned lane = threadIdx.x % 32;
  float* const mine = tile() + threadIdx.x / 32 * 32;
  mine[lane] = x[threadIdx.x];
  __syncwarp();
  const float other = mine[31 - lane];
  __syncwarp();
  mine[lane] = other;
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  y[threadIdx.x] = mine[lane ^ 8];
}

// A tile that each round of a loop fills anew, read by all threads.
__global__ void reused_tile(float* x, float* y, int64_t n, int64_t) {
  float sum = 0;
  for (int64_t first = 0; first < n; first += blockDim.x) {
    tile()[threadIdx.x] = x[first + threadIdx.x];
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x; ++i) sum += tile()[i];
    __syncthreads();
  }
  y[threadIdx.x] = sum;
}

// Bytes next to each other belong to different threads.
__global__ void byte_flags(float* x, float* y, int64_t, int64_t) {
  auto* const flags = reinterpret_cast<bool*>(hessx::shared_memory);
  tile()[64 + threadIdx.x] = x[threadIdx.x];
  flags[threadIdx.x] = x[threadIdx.x] > 0;
  __syncthreads();
  const unsigned next = (threadIdx.x + 1) % blockDim.x;
  y[threadIdx.x] = flags[next] ? tile()[64 + next] : -1;
}

// y, as integers, is set by atomic functions of all kinds, whose order does not matter.
__global__ void atomics(float*, float* y, int64_t, int64_t) {
  auto* const z = reinterpret_cast<int*>(y);
  auto* const u = reinterpret_cast<unsigned*>(y);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(z, i);
  atomicSub(z + 1, 1);
  atomicMin(z + 2, -i);
  atomicMax(z + 3, i);
  atomicOr(u + 4, 1u << (i % 32));
  atomicAnd(u + 5, ~(1u << (i % 4)));
  atomicXor(u + 6, 1u);
  atomicInc(u + 7, 5u);
  atomicExch(z + 8, 9);
  int old = atomicCAS(z + 9, 0, 0);
  for (int seen = -1; seen != old;) {
    seen = old;
    old = atomicCAS(z + 9, seen, seen + 2);
  }
  atomicAdd(y + 10, 0.5f);
  atomicAdd(reinterpret_cast<double*>(y + 12), 0.25);
}

// One thread after another: what an emulator that never changes threads could not run.
__global__ void spin_lock(float*, float* y, int64_t, int64_t) {
  auto* const lock = reinterpret_cast<int*>(y);
  while (atomicCAS(lock, 0, 1) != 0) {
  }
  atomicAdd(y + 1, 1);
  atomicExch(lock, 0);
}

// y[i + 1] is the i-th thread to arrive.
__global__ void arrivals(float*, float* y, int64_t, int64_t) {
  const int place = atomicAdd(reinterpret_cast<int*>(y), 1);
  y[place + 1] = blockIdx.x * blockDim.x + threadIdx.x;
}

// Where each thread is.
__global__ void indices(float*, float* y, int64_t, int64_t) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = threadIdx.x + 100 * blockIdx.x + 1e4f * blockDim.x + 1e6f * gridDim.x;
}

}  // extern "C"
