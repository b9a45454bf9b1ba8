// The functions of CUDA's runtime that csrc/bind_cuda.cpp calls.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "vector_types.h"

using cudaStream_t = struct CUstream_st*;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
};

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace emulator {

// Calls a kernel with the arguments of its launch, in each thread.
struct Body {
  void (*call)(const void* kernel, void** args);
  const void* kernel;
  void** args;
};

cudaError_t launch(const Body& body, dim3 grid, dim3 block, size_t shared_bytes);
cudaError_t allow_shared_bytes(const void* kernel, cudaFuncAttribute attribute, int bytes);

template <class... Parameters, size_t... Index>
Body body_of(void (*kernel)(Parameters...), void** args, std::index_sequence<Index...>) {
  const auto call = [](const void* kernel, void** args) {
    reinterpret_cast<void (*)(Parameters...)>(const_cast<void*>(kernel))(
        *static_cast<std::decay_t<Parameters>*>(args[Index])...);
  };
  return {call, reinterpret_cast<const void*>(kernel), args};
}

}  // namespace emulator

cudaError_t cudaSetDevice(int device);
// Of the last failure: what was wrong, in words.
const char* cudaGetErrorString(cudaError_t status);

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return emulator::allow_shared_bytes(reinterpret_cast<const void*>(kernel), attribute, value);
}

// The kernel's own parameter types say what the addresses in `args` point to.
template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes = 0, cudaStream_t = nullptr) {
  const auto indices = std::index_sequence_for<Parameters...>();
  return emulator::launch(emulator::body_of(kernel, args, indices), grid, block, shared_bytes);
}
