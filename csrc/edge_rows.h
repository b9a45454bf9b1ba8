// Pictures by bands of rows, and D^T of the edges of a band: h(i, j - 1) - h(i, j) + v(i - 1, j) -
// v(i, j), the horizontal edges h (p1, p2 - 1) and the vertical ones v (p1 - 1, p2) row by row.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "counts.h"
#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// Pixels of one band: the numbers of its edges take 32 kB in float32.
constexpr int64_t PIXELS_OF_BAND = 4096;
// The vertical edges above a band are made again: little beside this many rows.
constexpr int64_t MIN_ROWS_OF_BAND = 8;

struct Grid {
  Grid(int64_t rows, int64_t columns)
      : p1(rows), p2(columns), horizontal(p1 * (p2 - 1)), edges(horizontal + (p1 - 1) * p2) {}

  int64_t rows_of_band() const {
    const int64_t fitting = PIXELS_OF_BAND / p2;
    return smaller(p1, fitting > MIN_ROWS_OF_BAND ? fitting : MIN_ROWS_OF_BAND);
  }
  int64_t bands() const { return ceil_div(p1, rows_of_band()); }

  int64_t p1, p2, horizontal, edges;
};

// Rows [begin, end) of a picture and the edges that they need: horizontal ones [first_horizontal,
// end_horizontal), and vertical ones from the row above on.
struct Band {
  Band(const Grid& grid, int64_t number)
      : begin(number * grid.rows_of_band()),
        end(smaller(begin + grid.rows_of_band(), grid.p1)),
        above(begin > 0 ? begin - 1 : 0),
        first_horizontal(begin * (grid.p2 - 1)),
        end_horizontal(end * (grid.p2 - 1)),
        first_vertical(grid.horizontal + above * grid.p2),
        end_vertical(grid.horizontal + smaller(end, grid.p1 - 1) * grid.p2) {}

  int64_t begin, end, above;
  int64_t first_horizontal, end_horizontal, first_vertical, end_vertical;
};

// One row: `right` are its horizontal edges, `up` and `down` the vertical ones that end and begin
// in it.
template <class Real>
void write_adjoint_row(const Real* right, const Real* up, const Real* down, Real constant,
                       int64_t p2, Real* out) {
  for (int64_t j = 1; j < p2 - 1; ++j) {
    out[j] = (right[j - 1] - right[j]) + (up[j] - down[j]) + constant;
  }
  const int64_t last = p2 - 1;
  const Real leaving = last > 0 ? right[0] : 0;
  out[0] = -leaving + (up[0] - down[0]) + constant;
  if (last > 0) out[last] = right[last - 1] + (up[last] - down[last]) + constant;
}

// The rows of a band, from the numbers of its edges; `zeros` stand for the vertical edges beyond
// the borders.
template <class Real>
void write_adjoint(const Grid& grid, const Band& band, const Real* horizontal, const Real* vertical,
                   const Real* zeros, Real constant, Real* picture) {
  for (int64_t i = band.begin; i < band.end; ++i) {
    const Real* right = horizontal + (i - band.begin) * (grid.p2 - 1);
    const Real* down = vertical + (i - band.above) * grid.p2;
    write_adjoint_row(right, i > 0 ? down - grid.p2 : zeros, i + 1 < grid.p1 ? down : zeros,
                      constant, grid.p2, picture + i * grid.p2);
  }
}

// Memory of the threads, each with a row of zeros and room for some numbers.
template <class Real>
class Scratch {
 public:
  Scratch(int64_t p2, int64_t numbers, int n_threads)
      : p2_(p2),
        size_(p2 + numbers),
        memory_(static_cast<Real*>(std::malloc(size_ * n_threads * sizeof(Real)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
    for (int thread = 0; thread < n_threads; ++thread) {
      for (int64_t j = 0; j < p2; ++j) memory_[thread * size_ + j] = 0;
    }
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  const Real* zeros(int thread) const { return memory_ + thread * size_; }
  Real* numbers(int thread) const { return memory_ + thread * size_ + p2_; }

 private:
  int64_t p2_, size_;
  Real* memory_;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
