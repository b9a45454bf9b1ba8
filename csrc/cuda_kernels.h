// The CUDA kernels, as csrc/<op>.cu defines them and csrc/bind_cuda.cpp launches them. Names are
// plain (extern "C"), so that they are the same for nvcc, NVRTC and the tools that read binaries:
// hessx_<op>_<what>. hessx/nvrtc.py reads the types of the arguments here: pointers, int64_t, int,
// float and double.
#pragma once

#include "host_device.h"
#if !defined(__CUDACC_RTC__)
#include <cuda_runtime.h>
#endif

extern "C" {

// Eigenproblems (eigh.h): one block a matrix.
__global__ void hessx_eigh_float(const float* a, int64_t batch_stride, int64_t row_stride,
                                 int64_t column_stride, int64_t k, float* values, float* vectors);
__global__ void hessx_eigh_double(const double* a, int64_t batch_stride, int64_t row_stride,
                                  int64_t column_stride, int64_t k, double* values,
                                  double* vectors);

// Trust-region problems (trust_region.h): one warp a problem.
__global__ void hessx_trust_region_float(const float* eigenvalues, int64_t eigenvalues_batch_stride,
                                         int64_t eigenvalues_stride, const float* gradient,
                                         int64_t gradient_batch_stride, int64_t gradient_stride,
                                         const float* radius, int64_t radius_stride, int64_t batch,
                                         int64_t k, float* step, float* multiplier);
__global__ void hessx_trust_region_double(const double* eigenvalues,
                                          int64_t eigenvalues_batch_stride,
                                          int64_t eigenvalues_stride, const double* gradient,
                                          int64_t gradient_batch_stride, int64_t gradient_stride,
                                          const double* radius, int64_t radius_stride,
                                          int64_t batch, int64_t k, double* step,
                                          double* multiplier);
}
