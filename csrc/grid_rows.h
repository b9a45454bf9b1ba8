// Grids row by row on the CPU: rows shared out to threads, and the sum over the edges of a pixel.
#pragma once

#include "counts.h"
#include "grid.h"
#include "parallel.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {

// Pixels of one task: some microseconds of work, enough to pay for handing it to a thread.
constexpr int64_t PIXELS_PER_TASK = 16384;

// Calls body(grid, i) for each of n grids and its rows i, a task for some that follow each other.
template <class Body>
void for_rows(int64_t n, int64_t rows, int64_t columns, int n_threads, const Body& body) {
  const int64_t all = n * rows;
  const int64_t per_task = PIXELS_PER_TASK / smaller(columns, PIXELS_PER_TASK);
  parallel_for(ceil_div(all, per_task), n_threads, [&](int64_t task, int) {
    const int64_t begin = task * per_task;
    const int64_t end = smaller(all, begin + per_task);
    int64_t grid = begin / rows;
    int64_t i = begin % rows;
    for (int64_t row = begin; row < end; ++row) {
      body(grid, i);
      if (++i == rows) {
        i = 0;
        ++grid;
      }
    }
  });
}

template <bool ABOVE, bool BELOW, class Real, class Edges>
void adjoint_columns(const Edges& edges, int64_t p2, Real* out) {
  const auto pixels = [&](auto left, auto right, int64_t j) {
    using Value = decltype(left);
    const Value above = ABOVE ? edges.template above<Value>(j) : Value{};
    const Value below = BELOW ? edges.template below<Value>(j) : Value{};
    store(out + j, difference_adjoint(left, right, above, below));
  };
  const int64_t last = p2 - 1;
  pixels(Real{}, last > 0 ? edges.template right<Real>(0) : Real{}, 0);
  for_vectors<Real>(last - 1, [&](auto value, int64_t before) {
    using Value = decltype(value);
    const int64_t j = before + 1;
    pixels(edges.template left<Value>(j), edges.template right<Value>(j), j);
  });
  if (last > 0) pixels(edges.template left<Real>(last), Real{}, last);
}

// D^T in row i. Edges gives left, right, above and below: the numbers of the edges beside the
// pixels of that row from column j on, as a Value; it is not asked for edges that are not there.
template <class Real, class Edges>
void adjoint_row(const Edges& edges, int64_t i, int64_t p1, int64_t p2, Real* out) {
  const bool above = i > 0;
  const bool below = i + 1 < p1;
  if (above && below) return adjoint_columns<true, true>(edges, p2, out);
  if (above) return adjoint_columns<true, false>(edges, p2, out);
  if (below) return adjoint_columns<false, true>(edges, p2, out);
  adjoint_columns<false, false>(edges, p2, out);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
