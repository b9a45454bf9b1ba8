// Linear operators on grids on the CPU: one pass over rows, each in vector registers.
#include "grid.h"

#include "grid_rows.h"
#include "levels.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

template <class Real>
void grid_difference(const GridCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2;
  for_rows(call.n, p1, p2, call.n_threads, [&](int64_t grid, int64_t i) {
    const Real* g = call.x + (grid * p1 + i) * p2;
    Real* edges = call.out + grid * all_edges(p1, p2);
    Real* h = edges + i * (p2 - 1);
    for_vectors<Real>(p2 - 1, [&](auto value, int64_t j) {
      using Value = decltype(value);
      store(h + j, difference(load<Value>(g + j), load<Value>(g + j + 1)));
    });
    if (i + 1 == p1) return;
    Real* v = edges + horizontal_edges(p1, p2) + i * p2;
    for_vectors<Real>(p2, [&](auto value, int64_t j) {
      using Value = decltype(value);
      store(v + j, difference(load<Value>(g + j), load<Value>(g + j + p2)));
    });
  });
}

// Edges that are stored; h and v are those to the right of and below a row of pixels.
template <class Real>
struct StoredEdges {
  template <class Value>
  Value left(int64_t j) const {
    return load<Value>(h + j - 1);
  }
  template <class Value>
  Value right(int64_t j) const {
    return load<Value>(h + j);
  }
  template <class Value>
  Value above(int64_t j) const {
    return load<Value>(v + j - p2);
  }
  template <class Value>
  Value below(int64_t j) const {
    return load<Value>(v + j);
  }

  const Real *h, *v;
  int64_t p2;
};

template <class Real>
void grid_difference_adjoint(const GridCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2;
  for_rows(call.n, p1, p2, call.n_threads, [&](int64_t grid, int64_t i) {
    const Real* edges = call.x + grid * all_edges(p1, p2);
    const StoredEdges<Real> stored = {edges + i * (p2 - 1),
                                      edges + horizontal_edges(p1, p2) + i * p2, p2};
    adjoint_row(stored, i, p1, p2, call.out + (grid * p1 + i) * p2);
  });
}

// Edges made where they are used, from the pixels of a row and those around it.
template <class Real>
struct Differences {
  template <class Value>
  Value left(int64_t j) const {
    return difference(load<Value>(g + j - 1), load<Value>(g + j));
  }
  template <class Value>
  Value right(int64_t j) const {
    return left<Value>(j + 1);
  }
  template <class Value>
  Value above(int64_t j) const {
    return difference(load<Value>(g + j - p2), load<Value>(g + j));
  }
  template <class Value>
  Value below(int64_t j) const {
    return above<Value>(j + p2);
  }

  const Real* g;
  int64_t p2;
};

template <class Real>
void grid_laplacian(const GridCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2;
  for_rows(call.n, p1, p2, call.n_threads, [&](int64_t grid, int64_t i) {
    const int64_t row = (grid * p1 + i) * p2;
    adjoint_row(Differences<Real>{call.x + row, p2}, i, p1, p2, call.out + row);
  });
}

template <class Real>
void grid_curl(const GridCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2, faces = p2 - 1;
  for_rows(call.n, p1 - 1, p2, call.n_threads, [&](int64_t grid, int64_t i) {
    const Real* edges = call.x + grid * all_edges(p1, p2);
    const Real* h = edges + i * faces;
    const Real* v = edges + horizontal_edges(p1, p2) + i * p2;
    Real* out = call.out + grid * all_faces(p1, p2) + i * faces;
    for_vectors<Real>(faces, [&](auto value, int64_t j) {
      using Value = decltype(value);
      store(out + j, curl(load<Value>(h + j), load<Value>(v + j + 1), load<Value>(h + j + faces),
                          load<Value>(v + j)));
    });
  });
}

// Horizontal edges of row i: above them the last row of faces, below them their own.
template <bool ABOVE, bool BELOW, class Real>
void horizontal_of_faces(const Real* potential, int64_t faces, Real* h) {
  for_vectors<Real>(faces, [&](auto value, int64_t j) {
    using Value = decltype(value);
    store(h + j, difference(ABOVE ? load<Value>(potential + j - faces) : Value{},
                            BELOW ? load<Value>(potential + j) : Value{}));
  });
}

template <class Real>
void vertical_of_faces(const Real* potential, int64_t faces, Real* v) {
  v[0] = difference(faces > 0 ? potential[0] : Real{}, Real{});
  for_vectors<Real>(faces - 1, [&](auto value, int64_t j) {
    using Value = decltype(value);
    store(v + j + 1, difference(load<Value>(potential + j + 1), load<Value>(potential + j)));
  });
  if (faces > 0) v[faces] = difference(Real{}, potential[faces - 1]);
}

template <class Real>
void grid_curl_adjoint(const GridCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2, faces = p2 - 1;
  for_rows(call.n, p1, p2, call.n_threads, [&](int64_t grid, int64_t i) {
    const Real* potential = call.x + grid * all_faces(p1, p2) + i * faces;
    Real* edges = call.out + grid * all_edges(p1, p2);
    Real* h = edges + i * faces;
    const bool above = i > 0;
    const bool below = i + 1 < p1;
    if (above && below) horizontal_of_faces<true, true>(potential, faces, h);
    if (above && !below) horizontal_of_faces<true, false>(potential, faces, h);
    if (!above && below) horizontal_of_faces<false, true>(potential, faces, h);
    if (!above && !below) horizontal_of_faces<false, false>(potential, faces, h);
    if (below) {
      vertical_of_faces(potential, faces, edges + horizontal_edges(p1, p2) + i * p2);
    }
  });
}

}  // namespace

extern const GridKernels grid_kernels;
const GridKernels grid_kernels = {grid_difference<float>,
                                  grid_difference<double>,
                                  grid_difference_adjoint<float>,
                                  grid_difference_adjoint<double>,
                                  grid_laplacian<float>,
                                  grid_laplacian<double>,
                                  grid_curl<float>,
                                  grid_curl<double>,
                                  grid_curl_adjoint<float>,
                                  grid_curl_adjoint<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
