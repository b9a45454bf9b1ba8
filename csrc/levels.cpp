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
  extern const TVFlowKernels tv_flow_kernels;           \
  }

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
  return {{{"x86-64", true, &baseline::noise_kernels, &baseline::moments_kernels,
            &baseline::eigh_kernels, &baseline::trust_region_kernels, &baseline::softmax_kernels,
            &baseline::shrink_kernels, &baseline::prox_kernels, &baseline::tv_flow_kernels},
           {"x86-64-v3", v3, &v3::noise_kernels, &v3::moments_kernels, &v3::eigh_kernels,
            &v3::trust_region_kernels, &v3::softmax_kernels, &v3::shrink_kernels, &v3::prox_kernels,
            &v3::tv_flow_kernels},
           {"x86-64-v4", v4, &v4::noise_kernels, &v4::moments_kernels, &v4::eigh_kernels,
            &v4::trust_region_kernels, &v4::softmax_kernels, &v4::shrink_kernels, &v4::prox_kernels,
            &v4::tv_flow_kernels}},
          3};
}
#else
Levels built_levels() {
  return {{{"baseline", true, &baseline::noise_kernels, &baseline::moments_kernels,
            &baseline::eigh_kernels, &baseline::trust_region_kernels, &baseline::softmax_kernels,
            &baseline::shrink_kernels, &baseline::prox_kernels, &baseline::tv_flow_kernels}},
          1};
}
#endif

}  // namespace hessx
