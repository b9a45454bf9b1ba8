// What arithmetic needs that CPU kernels, nvcc and NVRTC all compile: how to mark it, integer types
// and the name of the CPU level.
#pragma once

#if defined(__CUDACC_RTC__)
// NVRTC finds no headers of the standard library.
using int32_t = int;
using int64_t = long long;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
#else
#include <cstdint>
#endif

#if defined(__CUDACC__)
#define HESSX_HD __host__ __device__ __forceinline__
#else
#define HESSX_HD inline
#endif

// Inline functions of one level must never be merged with those of another: the linker keeps one
// copy of equal symbols, and a copy with AVX-512 instructions in the baseline kernels would crash
// older processors. So everything that is compiled once per level lives in the level's namespace.
#if !defined(HESSX_LEVEL)
#define HESSX_LEVEL baseline
#endif
