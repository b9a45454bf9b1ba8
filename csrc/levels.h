// The kernels of each instruction-set level, and which levels this processor runs.
#pragma once

#include "boxes.h"
#include "edges.h"
#include "eigh.h"
#include "grid.h"
#include "grid_noise.h"
#include "infidelity.h"
#include "moments.h"
#include "noise.h"
#include "prox.h"
#include "shrink.h"
#include "softmax.h"
#include "trust_region.h"
#include "tv_flow.h"

namespace hessx {

struct NoiseKernels {
  void (*uniform_float)(float* out, const NoiseCall& call);
  void (*uniform_double)(double* out, const NoiseCall& call);
  void (*normal_float)(float* out, const NoiseCall& call);
  void (*normal_double)(double* out, const NoiseCall& call);
};

struct MomentsKernels {
  void (*sums_float)(const SumsCall<float>& call);
  void (*sums_double)(const SumsCall<double>& call);
  void (*cross_float)(const CrossMomentsCall<float>& call);
  void (*cross_double)(const CrossMomentsCall<double>& call);
  void (*core_float)(const CoreMomentsCall<float>& call);
  void (*core_double)(const CoreMomentsCall<double>& call);
};

struct TrustRegionKernels {
  void (*solve_float)(const TrustRegionCall<float>& call);
  void (*solve_double)(const TrustRegionCall<double>& call);
};

struct EighKernels {
  void (*eigh_float)(const EighCall<float>& call);
  void (*eigh_double)(const EighCall<double>& call);
};

struct SoftmaxKernels {
  void (*product_float)(const SoftmaxCall<float>& call);
  void (*product_double)(const SoftmaxCall<double>& call);
};

struct ShrinkKernels {
  void (*soft_threshold_float)(const SoftThresholdCall<float>& call);
  void (*soft_threshold_double)(const SoftThresholdCall<double>& call);
  void (*fista_float)(const FistaCall<float>& call);
  void (*fista_double)(const FistaCall<double>& call);
};

struct ProxKernels {
  void (*pass_float)(const ProxPassCall<float>& call);
  void (*pass_double)(const ProxPassCall<double>& call);
  void (*gram_float)(const GramCall<float>& call);
  void (*gram_double)(const GramCall<double>& call);
};

struct GridKernels {
  void (*difference_float)(const GridCall<float>& call);
  void (*difference_double)(const GridCall<double>& call);
  void (*difference_adjoint_float)(const GridCall<float>& call);
  void (*difference_adjoint_double)(const GridCall<double>& call);
  void (*laplacian_float)(const GridCall<float>& call);
  void (*laplacian_double)(const GridCall<double>& call);
  void (*curl_float)(const GridCall<float>& call);
  void (*curl_double)(const GridCall<double>& call);
  void (*curl_adjoint_float)(const GridCall<float>& call);
  void (*curl_adjoint_double)(const GridCall<double>& call);
};

struct GridNoiseKernels {
  void (*normal_float)(float* out, const GridNormalCall& call);
  void (*normal_double)(double* out, const GridNormalCall& call);
};

struct EdgesKernels {
  void (*prox_float)(const EdgeProxCall<float>& call);
  void (*prox_double)(const EdgeProxCall<double>& call);
  void (*divergence_float)(const EdgeDivergenceCall<float>& call);
  void (*divergence_double)(const EdgeDivergenceCall<double>& call);
  void (*update_float)(const EdgeUpdateCall<float>& call);
  void (*update_double)(const EdgeUpdateCall<double>& call);
};

struct TVFlowKernels {
  void (*solve)(const TVFlowCall& call);
};

struct InfidelityKernels {
  void (*dots_float)(const PerturbationDotsCall<float>& call);
  void (*dots_double)(const PerturbationDotsCall<double>& call);
  void (*gradient_float)(const PerturbationGradientCall<float>& call);
  void (*gradient_double)(const PerturbationGradientCall<double>& call);
};

struct BoxesKernels {
  void (*sums_float)(const BoxesCall<float>& call);
  void (*sums_double)(const BoxesCall<double>& call);
  void (*adjoint_float)(const BoxesCall<float>& call);
  void (*adjoint_double)(const BoxesCall<double>& call);
};

struct Level {
  const char* name;
  bool supported;
  const NoiseKernels* noise;
  const MomentsKernels* moments;
  const EighKernels* eigh;
  const TrustRegionKernels* trust_region;
  const SoftmaxKernels* softmax;
  const ShrinkKernels* shrink;
  const ProxKernels* prox;
  const GridKernels* grid;
  const GridNoiseKernels* grid_noise;
  const EdgesKernels* edges;
  const InfidelityKernels* infidelity;
  const TVFlowKernels* tv_flow;
  const BoxesKernels* boxes;
};

constexpr int MAX_LEVELS = 3;

struct Levels {
  Level level[MAX_LEVELS];
  int count;
};

// The levels that were built, the most basic one first.
Levels built_levels();

}  // namespace hessx
