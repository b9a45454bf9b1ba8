// CUDA C++ as plain C++17, and the part of CUDA's runtime that launches a kernel. The build
// includes this file before everything else, so that csrc/*.cu and csrc/bind_cuda.cpp compile
// unchanged.
#pragma once

#include "emulator/atomics.h"
#include "emulator/inline.h"
#include "emulator/launch.h"
#include "emulator/math.h"
#include "emulator/threads.h"
#include "emulator/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ EMULATOR_INLINE
#define __align__(bytes) __attribute__((aligned(bytes)))

// One block runs at a time on one thread of the machine, whose thread-local variables are therefore
// the block's: unlike `static`, this goes with `extern` too. (`used` because the compiler would
// take what is never written for zeros.)
#define __shared__ __attribute__((used)) thread_local

// The compiler evaluates the bound and leaves as many no-operations before the kernel, where
// launch.cpp counts them. (A sum, because GCC 12 crashes on the bare name of a constant.)
#define __launch_bounds__(threads, ...) \
  __attribute__((patchable_function_entry((threads) + 0, (threads) + 0)))
