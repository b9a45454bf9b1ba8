// The picture of least total variation within a distance of an estimate: min |D g|_1 subject to
// |D (g - estimate)|_inf <= radius, D the differences of neighbours. LEG-TV's linear program.
//
// D g is a flow on the faces of the grid, of cost |a_e| within bounds, so that a network simplex
// solves the program exactly, in integers.
//
// Contract: the solution is optimal and has mean zero up to the grid of the fixed point. Among all
// optimal pictures it is one of least sum_e u_e |a_e|, u_e a hash of the edge's number; with high
// probability there is only one: the hash has 55 - 2 log2(faces + 1) bits, the logarithm rounded
// up, 35 at 28 x 28 pixels and 23 at 224 x 224. Then neither the start nor other radii change a bit
// of it or of the potential; threads and company never do. (The reference, which is linear
// programming in floating point, gives any optimum.)
//
// Fixed point: pictures are integers times a power of two chosen from |D estimate|_inf alone, such
// that any path of edges fits 51 bits; the solution has those numbers to the bit. The radius is
// rounded inward by two units, which pays for rounding the estimate: |D (solution - estimate)|
// never exceeds the radius, not by a bit. A radius of less than three units is taken for zero: the
// solution is then estimate - mean in floating point, feasible to its rounding.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

// estimate (batch, p1, p2) and radius (batch, values), each row descending; solution
// (batch, values, p1, p2), potential (batch, values, p1 - 1, p2 - 1) and pivots (batch, values).
// All contiguous, finite, radius >= 0.
struct TVFlowCall {
  const double *estimate, *radius;
  int64_t batch, values, p1, p2;
  double* solution;
  int32_t* potential;
  int64_t* pivots;
  int n_threads;
};

}  // namespace hessx
