// Sums over the squares of given sides at all positions inside pictures, and each pixel's sum over
// the squares that cover it. Contract of every backend: sums in double, of neighbours along rows
// first and along columns then, sides in the order given, rounded once; additions alone, each
// number a term of what it belongs to and of nothing else. A summed-area table would need fewer of
// them, but it subtracts what lies outside a square, with all its rounding errors, NaN and
// infinities. There is no product to contract, so that all levels give the same bits.
#pragma once

#include "host_device.h"

namespace hessx {

// n pictures of p1 rows of p2 pixels and, for each, numbers on its squares: sides as given, then
// top-left corners row by row. From x to out, contiguous.
template <class Real>
struct BoxesCall {
  const Real* x;
  Real* out;
  int64_t n, p1, p2;
  const int64_t* sides;
  int64_t n_sides;
  int n_threads;
};

namespace HESSX_LEVEL {

// Squares of one side.
HESSX_HD int64_t box_count(int64_t p1, int64_t p2, int64_t side) {
  return (p1 - side + 1) * (p2 - side + 1);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
