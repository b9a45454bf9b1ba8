// The register-blocked inner product of the moments: a tile of rows by columns of sum_s a_s b_s^T,
// kept in vector registers over a whole block of samples.
#pragma once

#include <cstdint>
#include <type_traits>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// Registers: MAX_ROWS x 2 accumulators, 2 columns and 1 broadcast row entry fit the 32 of AVX-512
// and the 16 of the others.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int MAX_ROWS = 14;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
constexpr int MAX_ROWS = 6;
#else
constexpr int VECTOR_BYTES = 16;
constexpr int MAX_ROWS = 6;
#endif

template <class Real>
constexpr int LANES = VECTOR_BYTES / static_cast<int>(sizeof(Real));

template <class Real>
constexpr int MAX_COLUMNS = 2 * LANES<Real>;

// a (n, ROWS) and b (n, VECTORS * LANES) are packed panels; out has b's width.
template <int ROWS, int VECTORS, class Real>
void tile(const Real* a, const Real* b, int64_t n, Real* out) {
  typedef Real Vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
  Vector sum[ROWS][VECTORS] = {};
  const Vector* columns = reinterpret_cast<const Vector*>(b);
  for (int64_t s = 0; s < n; ++s) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < VECTORS; ++j) sum[i][j] += a[i] * columns[j];
    }
    a += ROWS;
    columns += VECTORS;
  }
  Vector* to = reinterpret_cast<Vector*>(out);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) to[i * VECTORS + j] = sum[i][j];
  }
}

// Heights that exist; what is left over at the edge takes the smallest that holds it.
inline int panel_rows(int64_t left) {
  if (left >= MAX_ROWS) return MAX_ROWS;
  if (left > 8) return MAX_ROWS;
  if (left > 4) return MAX_ROWS < 8 ? MAX_ROWS : 8;
  return left > 2 ? 4 : static_cast<int>(left);
}

template <class Real>
int panel_columns(int64_t left) {
  return left > LANES<Real> ? MAX_COLUMNS<Real> : LANES<Real>;
}

template <int VECTORS, class Real>
void tile_of_rows(int rows, const Real* a, const Real* b, int64_t n, Real* out) {
  switch (rows) {
    case 1: return tile<1, VECTORS>(a, b, n, out);
    case 2: return tile<2, VECTORS>(a, b, n, out);
    case 4: return tile<4, VECTORS>(a, b, n, out);
    case MAX_ROWS: return tile<MAX_ROWS, VECTORS>(a, b, n, out);
    default: return tile<8, VECTORS>(a, b, n, out);
  }
}

template <class Real>
void tile_of_shape(int rows, int columns, const Real* a, const Real* b, int64_t n, Real* out) {
  if (columns == LANES<Real>) return tile_of_rows<1>(rows, a, b, n, out);
  return tile_of_rows<2>(rows, a, b, n, out);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
