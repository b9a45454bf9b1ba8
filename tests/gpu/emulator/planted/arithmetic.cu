// Mistakes in indices and values, and a launch bound.
#include "kernels.h"

namespace {

constexpr int BOUND = 64;

}  // namespace

extern "C" {

__global__ void index_overflow(float* x, float*, int64_t n, int64_t stride) {
  const int index = static_cast<int>(n) * static_cast<int>(stride);
  x[index & 1] = 1;
}

__global__ void offset_of_32_bits(float* x, float*, int64_t n, int64_t stride) {
  const unsigned index = static_cast<unsigned>(n) * static_cast<unsigned>(stride);
  x[index] = 1;
}

__global__ void offset_of_64_bits(float* x, float*, int64_t n, int64_t stride) {
  x[n * stride] = 1;
}

__global__ void shift_too_far(float* x, float*, int64_t n, int64_t) {
  x[threadIdx.x] = static_cast<float>(1 << static_cast<int>(n));
}

__global__ void accumulator_not_set(float* x, float* y, int64_t n, int64_t) {
  float sum;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  y[threadIdx.x] = sum;
}

__global__ void __launch_bounds__(BOUND, 2) bounded_by_64(float* x, float*, int64_t, int64_t) {
  x[threadIdx.x] = blockDim.x;
}

}  // extern "C"
