// Linear operators on the pixels, edges and faces of grids. Contract of every backend: sums and
// differences in the type of the arguments, in the order written below, what is not there being 0.
// There is no product to contract, so that all backends and levels give the same bits.
//
// A grid has p1 rows of p2 pixels. Its edges are p1 rows of p2 - 1 horizontal ones, from each pixel
// to the one on its right, then p1 - 1 rows of p2 vertical ones, from each pixel to the one below;
// its faces are p1 - 1 rows of p2 - 1, each between four pixels.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

// From x to out, one after the other for each of n grids, contiguous.
template <class Real>
struct GridCall {
  const Real* x;
  Real* out;
  int64_t n, p1, p2;
  int n_threads;
};

namespace HESSX_LEVEL {

HESSX_HD int64_t horizontal_edges(int64_t p1, int64_t p2) { return p1 * (p2 - 1); }
HESSX_HD int64_t all_edges(int64_t p1, int64_t p2) { return 2 * p1 * p2 - p1 - p2; }
HESSX_HD int64_t all_faces(int64_t p1, int64_t p2) { return (p1 - 1) * (p2 - 1); }

// D: the number of an edge, by those of the pixels at its ends.
template <class Value>
HESSX_HD Value difference(Value from, Value to) {
  return to - from;
}

// D^T: the number of a pixel, by those of the edges that end there less those that begin there.
template <class Value>
HESSX_HD Value difference_adjoint(Value left, Value right, Value above, Value below) {
  return (left - right) + (above - below);
}

// C: the number of a face, by those of the edges around it, clockwise in rows that go down.
template <class Value>
HESSX_HD Value curl(Value top, Value right, Value bottom, Value left) {
  return (top - bottom) + (right - left);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
