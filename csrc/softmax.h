// The softmax product (diag p - p p^T) u. Contract of every backend: with k the first class of the
// largest probability and v = u - u_k, w_i = p_i (v_i - sum_j p_j v_j), in float64, rounded once.
// For probabilities that add up to 1 this is the product; but class k, whose 1 - p_k has few digits
// or none, is not needed to be exact: v_k = 0.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

// probabilities (batch, classes), vectors and out (batch, m, classes), all contiguous.
template <class Real>
struct SoftmaxCall {
  const Real *probabilities, *vectors;
  Real* out;
  int64_t batch, m, classes;
  int n_threads;
};

}  // namespace hessx
