// Eigenvalues and eigenvectors of many small symmetric matrices, by two-sided Jacobi rotations.
//
// Contract of every backend: a = V diag(values) V^T, values ascending, eigenvectors in columns; the
// lower triangle is read. Working precision is the input's. NaN or infinity in the lower triangle
// makes the whole result of that matrix NaN, and of no other. A matrix gets the same bits alone and
// in company.
//
// The matrix is scaled by a power of two so that its largest entry lies in [1/2, 1). A step rotates
// n / 2 disjoint pairs of rows and columns at once; n - 1 steps, one sweep, meet every pair once.
// An entry of at most one rounding error of the largest is not rotated. The end is a run of n - 1
// steps in which nothing was: the matrix no longer changes, so that every later step would leave it
// alone as well. That is why a matrix that has converged may go along with others that have not.
#pragma once

#include "host_device.h"
#include "real.h"

namespace hessx {

// Rows and columns at most: as many pairs as a warp has threads.
constexpr int MAX_K = 64;

// Random matrices take 5 to 10 sweeps; the bound only keeps the loop finite.
constexpr int MAX_SWEEPS = 30;

// Matrices (batch, k, k); strides in elements. values (batch, k) and vectors (batch, k, k) are
// contiguous.
template <class Real>
struct EighCall {
  const Real* a;
  int64_t batch_stride, row_stride, column_stride;
  int64_t batch, k;
  Real *values, *vectors;
  int n_threads;
};

namespace HESSX_LEVEL {

// Rows and columns of the working matrix: even, so that they pair up. For odd k the last one is
// zero and is never rotated.
HESSX_HD int padded_size(int k) { return k + k % 2; }

struct Pair {
  int p, q;
};

// Pair i < n / 2 of a step < n - 1 of a round-robin tournament of n rows (the circle method). Pairs
// i, i + 1, ... are neighbours: p goes up by one and q goes down, around a circle of n - 1.
HESSX_HD Pair pair_of(int i, int step, int n) {
  const int around = n - 1;
  int p = step + i;
  if (p >= around) p -= around;
  int q = step - i;
  if (q < 0) q += around;
  if (i == 0) p = around;
  return {p, q};
}

// A rotation by an angle x as s = sin x and tau = tan(x / 2): columns p and q become
// p - s (q + tau p) and q + s (p - tau q), which is p cos x - q sin x and q cos x + p sin x with
// 1 - s tau for cos x. Small angles change little and err little (Rutishauser 1966): with rounded
// cosines, 64 float32 eigenvectors are off orthogonality by 1e-5. T is a number or a vector of
// lanes.
template <class T>
struct Rotation {
  T s, tau;
};

template <class T>
HESSX_HD void rotate(const Rotation<T>& by, T& p, T& q) {
  const T old_p = p;
  p -= by.s * (q + by.tau * p);
  q += by.s * (old_p - by.tau * q);
}

// The rotation that makes the entry pq zero, and what it does to the diagonal. Where `rotated` (a
// truth value, a mask for lanes) is false, it is the identity. Its angle is the smaller of the two
// possible ones, at most pi / 4: convergence needs that.
template <class T, class Mask>
HESSX_HD Rotation<T> annihilate(T& pp, T& qq, T& pq, Mask rotated) {
  const T zero = pq - pq;
  const T d = qq - pp;
  const T x = rotated ? pq : zero;
  // |d| = root cos 2x and w = root cos x, from which sine, tangent and tan(x / 2) follow with one
  // division. Nothing here under- or overflows: the matrix is scaled, and pq is not tiny.
  const T root = square_root(d * d + 4 * x * x);
  const T w = square_root((root * root + root * magnitude(d)) / 2);
  const T common = (d < 0 ? -x : x) / (rotated ? w * w * (root + w) : zero + 1);
  const T shift = common * root * (root + w) * x;
  pp -= shift;
  qq += shift;
  pq = rotated ? zero : pq;
  return {common * w * (root + w), common * root * w};
}

// The four entries of rows (p, q) of pair i and columns (p, q) of pair j.
template <class T>
struct Block {
  T pp, pq, qp, qq;
};

template <class T>
HESSX_HD void rotate(const Rotation<T>& rows, const Rotation<T>& columns, Block<T>& block) {
  rotate(rows, block.pp, block.qp);
  rotate(rows, block.pq, block.qq);
  rotate(columns, block.pp, block.pq);
  rotate(columns, block.qp, block.qq);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
