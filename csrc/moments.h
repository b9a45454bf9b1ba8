// Moments: batched sums of products of samples. Contract of every backend: products and sums in
// the input's precision within blocks of SAMPLE_BLOCK samples, the blocks added up in order in
// float64. NaN and infinity reach the entries they touch and no others.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

constexpr int64_t SAMPLE_BLOCK = 256;

// Samples (batch, n, features); strides in elements, a batch stride of 0 shares one set.
template <class Real>
struct Samples {
  const Real* data;
  int64_t batch_stride, row_stride, column_stride;
};

// One weight a sample (batch, n); no data means 1.
template <class Real>
struct Weights {
  const Real* data;
  int64_t batch_stride, stride;
};

// out (batch, k) = sum_i w_i x_i, or of the squares of x_i.
template <class Real>
struct SumsCall {
  Samples<Real> x;
  Weights<Real> weight;
  bool squares;
  int64_t batch, n, k;
  double* out;
  int n_threads;
};

// uv (batch, k, l) = sum_i w_i u_i v_i^T
template <class Real>
struct CrossMomentsCall {
  Samples<Real> u, v;
  Weights<Real> weight;
  int64_t batch, n, k, l;
  double* uv;
  int n_threads;
};

// uw = u^T w, u2w2 = (u*u)^T (w*w), cross = (u*w)^T (u*w), each (batch, k, k)
template <class Real>
struct CoreMomentsCall {
  Samples<Real> u, w;
  int64_t batch, n, k;
  double *uw, *u2w2, *cross;
  int n_threads;
};

}  // namespace hessx
