#include "levels.h"

namespace hessx {

#define HESSX_DECLARE_KERNELS(level)                    \
  namespace level {                                     \
  extern const NoiseKernels noise_kernels;              \
  extern const MomentsKernels moments_kernels;          \
  extern const EighKernels eigh_kernels;                \
  extern const TrustRegionKernels trust_region_kernels; \
  extern const SoftmaxKernels softmax_kernels;          \
  extern const ShrinkKernels shrink_kernels;            \
  extern const ProxKernels prox_kernels;                \
  extern const GridKernels grid_kernels;                \
  extern const GridNoiseKernels grid_noise_kernels;     \
  extern const EdgesKernels edges_kernels;              \
  extern const InfidelityKernels infidelity_kernels;    \
  extern const TVFlowKernels tv_flow_kernels;           \
  extern const BoxesKernels boxes_kernels;              \
  }

// In the order of the members of Level.
#define HESSX_KERNELS(level)                                                         \
  &level::noise_kernels, &level::moments_kernels, &level::eigh_kernels,              \
      &level::trust_region_kernels, &level::softmax_kernels, &level::shrink_kernels, \
      &level::prox_kernels, &level::grid_kernels, &level::grid_noise_kernels,        \
      &level::edges_kernels, &level::infidelity_kernels, &level::tv_flow_kernels,    \
      &level::boxes_kernels

HESSX_DECLARE_KERNELS(baseline)

#if defined(HESSX_X86_LEVELS)
HESSX_DECLARE_KERNELS(v3)
HESSX_DECLARE_KERNELS(v4)

Levels built_levels() {
  // The features that tell the levels apart; processors that have them have the rest as well.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return {{{"x86-64", true, HESSX_KERNELS(baseline)},
           {"x86-64-v3", v3, HESSX_KERNELS(v3)},
           {"x86-64-v4", v4, HESSX_KERNELS(v4)}},
          3};
}
#else
Levels built_levels() { return {{{"baseline", true, HESSX_KERNELS(baseline)}}, 1}; }
#endif

}  // namespace hessx
