// Prox pass: the soft-thresholded point of a low-rank model, seen through its basis. Contract of
// every backend: the point and the sums within a tile in the input's precision, the tiles added up
// in a fixed order in float64. NaN and infinity reach the rows of the batch they touch and no
// others.
#pragma once

#include <cstdint>

#include "row_sets.h"

namespace hessx {

// s = S(gradient + basis^T z, lambda1), never stored:
// w (batch, lambdas, r) = basis s,
// sums (batch, lambdas, 4) = |s|_2^2, |s|_1, gradient . s, zeros of s,
// gram (batch, lambdas, r, r) = basis_A basis_A^T over the columns A where s is not 0, unless null.
// Everything but the basis and the gradient's batch is contiguous.
template <class Real>
struct ProxPassCall {
  RowSets<Real> basis;
  const Real* gradient;
  int64_t gradient_stride;
  const Real *z, *lambda1;
  int64_t batch, lambdas, r, d;
  double *w, *sums, *gram;
  int n_threads;
};

// gram (batch, rows, rows) = x x^T
template <class Real>
struct GramCall {
  RowSets<Real> x;
  int64_t batch, rows, d;
  double* gram;
  int n_threads;
};

}  // namespace hessx
