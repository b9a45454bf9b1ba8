// Inner products of rows that are contiguous in memory: blocks of a b^T, each entry's terms spread
// over the lanes of one vector register. Products and sums are of b's type; numbers of a are
// converted to it.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "tile.h"

namespace hessx {
namespace HESSX_LEVEL {

// Registers: HEIGHT x WIDTH accumulators and HEIGHT + 1 operands fit the 32 of AVX-512 and the 16
// of the others.
constexpr int HEIGHT = 4;
#if defined(__AVX512F__)
constexpr int WIDTH = 4;
#else
constexpr int WIDTH = 2;
#endif

// Rows of a tile: columns side by side, `stride` elements from row to row.
template <class Real>
struct TileRows {
  const Real* data;
  int64_t stride;
  const Real* operator[](int64_t row) const { return data + row * stride; }
};

// Lanes of numbers that may lie anywhere, not only at multiples of the register's size.
template <class Real>
using Lanes __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(Real)), may_alias)) = Real;

template <class Real>
const Lanes<Real>& lanes_at(const Real* from) {
  return *reinterpret_cast<const Lanes<Real>*>(from);
}

// As many numbers as fit a register of Real, converted to it.
template <class Real, class From>
Lanes<Real> converted_lanes(const From* from) {
  if constexpr (sizeof(From) == sizeof(Real)) {
    return lanes_at(from);
  } else {
    typedef From Narrow
        __attribute__((vector_size(LANES<Real> * sizeof(From)), aligned(alignof(From)), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const Narrow*>(from), Lanes<Real>);
  }
}

// The sum of N numbers, by halves that are registers of their own.
template <int N, class Real>
Real sum_by_halves(const Real* x) {
  if constexpr (N == 1) {
    return *x;
  } else {
    typedef Real Half
        __attribute__((vector_size(N / 2 * sizeof(Real)), aligned(alignof(Real)), may_alias));
    const Half sum = *reinterpret_cast<const Half*>(x) + *reinterpret_cast<const Half*>(x + N / 2);
    return sum_by_halves<N / 2>(reinterpret_cast<const Real*>(&sum));
  }
}

template <class Real>
Real sum_of_lanes(const Lanes<Real>& lanes) {
  return sum_by_halves<LANES<Real>>(reinterpret_cast<const Real*>(&lanes));
}

// The columns that do not fill a register.
template <class From, class Real>
void add_columns(int rows, int columns, TileRows<From> a, TileRows<Real> b, int64_t begin,
                 int64_t end, double* out, int64_t out_stride) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      Real sum = 0;
      for (int64_t s = begin; s < end; ++s) sum += a[i][s] * b[j][s];
      out[i * out_stride + j] += sum;
    }
  }
}

template <int ROWS, int COLUMNS, class From, class Real>
void add_block(TileRows<From> a, TileRows<Real> b, int64_t n, double* out, int64_t out_stride) {
  Lanes<Real> sum[ROWS][COLUMNS] = {};
  const int64_t whole = n - n % LANES<Real>;
  for (int64_t s = 0; s < whole; s += LANES<Real>) {
    Lanes<Real> left[ROWS];
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; ++i) left[i] = converted_lanes<Real>(a[i] + s);
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; ++j) {
      const Lanes<Real> right = lanes_at(b[j] + s);
#pragma GCC unroll 4
      for (int i = 0; i < ROWS; ++i) sum[i][j] += left[i] * right;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; ++j) {
      out[i * out_stride + j] += sum_of_lanes<Real>(sum[i][j]);
    }
  }
  if (whole < n) add_columns(ROWS, COLUMNS, a, b, whole, n, out, out_stride);
}

// A block of fewer than COLUMNS columns at the edge.
template <int ROWS, int COLUMNS, class From, class Real>
void add_block_of_columns(int64_t columns, TileRows<From> a, TileRows<Real> b, int64_t n,
                          double* out, int64_t out_stride) {
  if constexpr (COLUMNS > 1) {
    if (columns < COLUMNS) {
      return add_block_of_columns<ROWS, COLUMNS - 1>(columns, a, b, n, out, out_stride);
    }
  }
  add_block<ROWS, COLUMNS>(a, b, n, out, out_stride);
}

// out (rows, columns) += a b^T over n numbers of each row. With `upper`, blocks that lie wholly
// below the diagonal are left out.
template <class From, class Real, int COLUMNS = WIDTH>
void add_inner_products(TileRows<From> a, int64_t rows, TileRows<Real> b, int64_t columns,
                        int64_t n, bool upper, double* out, int64_t out_stride) {
  for (int64_t i = 0; i < rows; i += HEIGHT) {
    const TileRows<From> left = {a[i], a.stride};
    for (int64_t j = upper ? i : 0; j < columns; j += COLUMNS) {
      const TileRows<Real> right = {b[j], b.stride};
      const int64_t width = columns - j;
      double* to = out + i * out_stride + j;
      switch (rows - i) {
        case 1: add_block_of_columns<1, COLUMNS>(width, left, right, n, to, out_stride); break;
        case 2: add_block_of_columns<2, COLUMNS>(width, left, right, n, to, out_stride); break;
        case 3: add_block_of_columns<3, COLUMNS>(width, left, right, n, to, out_stride); break;
        default: add_block_of_columns<HEIGHT, COLUMNS>(width, left, right, n, to, out_stride);
      }
    }
  }
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
