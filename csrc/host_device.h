// Marks arithmetic that both the CPU kernels and CUDA kernels use, and names the CPU level.
#pragma once

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
