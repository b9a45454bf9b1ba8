// Soft threshold and FISTA step. Contract of every backend: arithmetic in the type of the
// arguments; the sums are those of the results as they are stored, added up in that type within
// COLUMN_BLOCK columns, the blocks in order in float64. NaN reaches the entries and sums of its
// row, no others.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

constexpr int64_t COLUMN_BLOCK = 4096;

// out_ij = S(x_ij, threshold_i); x and out (rows, d) contiguous.
template <class Real>
struct SoftThresholdCall {
  const Real *x, *threshold;
  Real* out;
  int64_t rows, d;
  int n_threads;
};

// gradient (batch, d), the other vectors (batch, m, d), numbers (batch, m), sums (batch, m,
// FISTA_SUMS), all contiguous.
template <class Real>
struct FistaCall {
  const Real *gradient, *product, *point, *previous;
  const Real *step, *momentum, *lambda1, *lambda2;
  Real *next, *extrapolated;
  double* sums;
  int64_t batch, m, d;
  int n_threads;
};

// gradient . next, |next|_1, |next|_2^2, |next - previous|_2^2, number of zeros of next
constexpr int FISTA_SUMS = 5;

namespace HESSX_LEVEL {

// S(x, t) = sign(x) max(|x| - t, 0) for t >= 0, as x less its part within [-t, t]. A comparison
// with NaN picks the bound, so that NaN of either argument reaches the difference.
template <class Value>
HESSX_HD Value soft_threshold_of(Value x, Value t) {
  const Value below = x < t ? x : t;
  return x - (below > -t ? below : -t);
}

// What one row of a FISTA step needs beside its vectors.
template <class Value>
struct FistaNumbers {
  Value step, momentum, threshold, twice_lambda2;
};

template <class Value>
HESSX_HD Value fista_next(const FistaNumbers<Value>& row, Value gradient, Value product,
                          Value point) {
  const Value ascent = gradient + product - row.twice_lambda2 * point;
  return soft_threshold_of(point + row.step * ascent, row.threshold);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
