// A step of the Douglas-Rachford method on the edges of grids. Contract of every backend:
// arithmetic in the type of the arguments; the squares of the residual are taken and added up in
// float64, within blocks of rows that depend on the grid alone, the blocks in order. NaN reaches
// what it touches, and no other row of the batch.
// An edge vector has the horizontal edges first, h(i, j) = g(i, j + 1) - g(i, j), then the vertical
// ones, v(i, j) = g(i + 1, j) - g(i, j), both row by row.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "shrink.h"

namespace hessx {

// z, centre and out (rows, m), radius and threshold (rows), all contiguous.
template <class Real>
struct EdgeProxCall {
  const Real *z, *centre, *radius, *threshold;
  Real* out;
  int64_t rows, m;
  int n_threads;
};

// out (rows, p1, p2).
template <class Real>
struct EdgeDivergenceCall {
  const Real *z, *centre, *radius, *threshold;
  Real* out;
  int64_t rows, p1, p2;
  int n_threads;
};

// z, anchor, centre and next (rows, m), potential (rows, p1, p2), the others (rows). next may be z
// or anchor.
template <class Real>
struct EdgeUpdateCall {
  const Real *z, *anchor, *centre, *potential, *radius, *threshold, *weight;
  Real* next;
  double* residual;
  int64_t rows, p1, p2;
  int n_threads;
};

namespace HESSX_LEVEL {

// The nearest number to x within [low, high]; NaN where one of the three is, or the box is empty.
template <class Value>
HESSX_HD Value clipped(Value x, Value low, Value high) {
  const Value raised = x < low ? low : x;
  const Value clip = raised > high ? high : raised;
  // A comparison with NaN is false: bounds that are none show in their order.
  const Value none = Value{} / Value{};
  return low <= high ? clip : none;
}

// The proximal map of threshold |a| on [centre - radius, centre + radius].
template <class Value>
HESSX_HD Value edge_prox_of(Value z, Value centre, Value radius, Value threshold) {
  return clipped(soft_threshold_of(z, threshold), centre - radius, centre + radius);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
