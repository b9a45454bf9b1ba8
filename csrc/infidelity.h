// Perturbations times explanations. Contract of every backend: products and sums in float64, over
// fixed blocks, in order. NaN and infinity reach what they touch and nothing else.
#pragma once

#include <cstdint>

#include "row_sets.h"

namespace hessx {

// dots (batch, n, explanations) = perturbations attributions^T, attributions (batch, explanations,
// d). Everything but the perturbations (batch, n, d) is contiguous.
template <class Real>
struct PerturbationDotsCall {
  RowSets<Real> perturbations;
  const double* attributions;
  int64_t batch, n, explanations, d;
  double* dots;
  int n_threads;
};

// With residuals dots - differences: gradient (batch, explanations, d) = sum over the perturbations
// of weight x residual x perturbation, loss (batch, explanations) = sum of weight x residual^2.
// differences (batch, n, explanations); weights (n), or null for 1.
template <class Real>
struct PerturbationGradientCall {
  RowSets<Real> perturbations;
  const double *attributions, *differences, *weights;
  int64_t batch, n, explanations, d;
  double *gradient, *loss;
  int n_threads;
};

}  // namespace hessx
