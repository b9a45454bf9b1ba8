// Jacobi on a GPU: one block a matrix, which stays in shared memory from load to store. The method
// is in eigh.h.
#include "cuda_kernels.h"
#include "eigh.h"
#include "shared_memory.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int MAX_THREADS = 256;

// The largest magnitude of the threads of the block, for all of them.
template <class Real>
__device__ Real block_max(Real x, Real* partial) {
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
    x = larger(x, __shfl_xor_sync(ALL_LANES, x, lanes));
  }
  const int warp = threadIdx.x / WARP;
  if (threadIdx.x % WARP == 0) partial[warp] = x;
  __syncthreads();
  const int warps = blockDim.x / WARP;
  for (int w = 0; w < warps; ++w) x = larger(x, partial[w]);
  return x;
}

// Entries (row, column) of a table of `columns` columns, dealt out to the threads of the block.
class Dealt {
 public:
  __device__ explicit Dealt(int columns)
      : row(threadIdx.x / columns),
        column(threadIdx.x % columns),
        columns_(columns),
        rows_on_(blockDim.x / columns),
        columns_on_(blockDim.x % columns) {}

  __device__ void next() {
    row += rows_on_;
    column += columns_on_;
    if (column >= columns_) {
      column -= columns_;
      ++row;
    }
  }

  int row, column;

 private:
  int columns_, rows_on_, columns_on_;
};

// What one block holds in shared memory: hessx/ops/eigh/cuda.py asks for as many bytes.
//
// Rows have no padding. Neighbouring threads take neighbouring pairs, whose entries are n + 1 or
// n - 1 apart in the matrix and 1 apart in the vectors: odd, so that they lie in different banks.
template <class Real>
struct Workspace {
  __device__ Workspace(int k, int n)
      : n(n),
        matrix(reinterpret_cast<Real*>(shared_memory)),
        vectors(matrix + n * n),
        rotations(reinterpret_cast<Rotation<Real>*>(vectors + k * n)),
        partial(reinterpret_cast<Real*>(rotations + n / 2)),
        order(reinterpret_cast<int*>(partial + MAX_THREADS / WARP)),
        rotated(order + k) {}

  // An entry, found in the lower triangle.
  __device__ Real& at(int p, int q) const { return matrix[p > q ? p * n + q : q * n + p]; }

  int n;
  Real *matrix, *vectors;
  Rotation<Real>* rotations;
  Real* partial;
  int *order, *rotated;
};

template <class Real>
__device__ void rotate_pairs(const Workspace<Real>& work, int step) {
  if (threadIdx.x >= WARP) return;
  bool rotated = false;
  if (threadIdx.x < work.n / 2) {
    const Pair pair = pair_of(threadIdx.x, step, work.n);
    Real& pq = work.at(pair.p, pair.q);
    rotated = magnitude(pq) > ROUNDING<Real>;
    work.rotations[threadIdx.x] =
        annihilate(work.at(pair.p, pair.p), work.at(pair.q, pair.q), pq, rotated);
  }
  const bool any = __any_sync(ALL_LANES, rotated);
  if (threadIdx.x == 0) *work.rotated = any;
}

// Rotates the blocks off the diagonal, each once: the unordered pairs of h pairs are
// {i, i + distance mod h}, distance = 1, 2, ..., taken in the order distance * h + i until there
// are h (h - 1) / 2. An even h ends in the middle of the last distance, where pairs would repeat.
template <class Real>
__device__ void rotate_blocks(const Workspace<Real>& work, int step) {
  const int h = work.n / 2;
  const int last = h * (h - 1) / 2;
  Dealt at(h);
  for (int t = threadIdx.x; t < last; t += blockDim.x, at.next()) {
    const int i = at.column;
    int j = i + at.row + 1;
    if (j >= h) j -= h;
    const Pair rows = pair_of(i, step, work.n);
    const Pair columns = pair_of(j, step, work.n);
    Real& pp = work.at(rows.p, columns.p);
    Real& pq = work.at(rows.p, columns.q);
    Real& qp = work.at(rows.q, columns.p);
    Real& qq = work.at(rows.q, columns.q);
    Block<Real> block = {pp, pq, qp, qq};
    rotate(work.rotations[i], work.rotations[j], block);
    pp = block.pp;
    pq = block.pq;
    qp = block.qp;
    qq = block.qq;
  }
}

template <class Real>
__device__ void rotate_vectors(const Workspace<Real>& work, int k, int step) {
  const int h = work.n / 2;
  for (Dealt at(h); at.row < k; at.next()) {
    const Pair pair = pair_of(at.column, step, work.n);
    Real* row = work.vectors + at.row * work.n;
    rotate(work.rotations[at.column], row[pair.p], row[pair.q]);
  }
}

template <class Real>
__device__ void eigh(const Real* a, int64_t batch_stride, int64_t row_stride, int64_t column_stride,
                     int64_t size, Real* values, Real* vectors) {
  const int k = static_cast<int>(size);
  const int n = padded_size(k);
  const Workspace<Real> work(k, n);
  a += blockIdx.x * batch_stride;
  values += blockIdx.x * size;
  vectors += blockIdx.x * size * size;

  Real largest = 0;
  for (Dealt at(n); at.row < n; at.next()) {
    const bool inside = at.column <= at.row && at.row < k;
    const Real x = inside ? a[at.row * row_stride + at.column * column_stride] : 0;
    work.matrix[at.row * n + at.column] = x;
    if (at.row < k) work.vectors[at.row * n + at.column] = at.row == at.column ? 1 : 0;
    largest = larger(largest, magnitude(x));
  }
  largest = block_max(largest, work.partial);
  const Real zero_or_nan = largest - largest;
  if (zero_or_nan != 0) {
    for (int i = threadIdx.x; i < k; i += blockDim.x) values[i] = zero_or_nan;
    for (int i = threadIdx.x; i < k * k; i += blockDim.x) vectors[i] = zero_or_nan;
    return;
  }
  const int exponent = exponent_of(largest);
  const PowerOfTwo<Real> down(-exponent), up(exponent);
  for (Dealt at(n); at.row < n; at.next()) {
    Real& x = work.matrix[at.row * n + at.column];
    x = down * x;
  }
  __syncthreads();

  int quiet_steps = 0;
  int step = 0;
  for (int left = MAX_SWEEPS * (n - 1); left > 0 && quiet_steps < n - 1; --left) {
    rotate_pairs(work, step);
    __syncthreads();
    if (*work.rotated) {
      rotate_blocks(work, step);
      rotate_vectors(work, k, step);
      quiet_steps = 0;
    } else {
      ++quiet_steps;
    }
    __syncthreads();
    step = step + 1 < n - 1 ? step + 1 : 0;
  }

  // Ranks by comparison; equal values keep their places, so that the order is one and only.
  for (int p = threadIdx.x; p < k; p += blockDim.x) {
    const Real value = work.at(p, p);
    int rank = 0;
    for (int q = 0; q < k; ++q) {
      const Real other = work.at(q, q);
      if (other < value || (other == value && q < p)) ++rank;
    }
    values[rank] = up * value;
    work.order[rank] = p;
  }
  __syncthreads();
  for (Dealt at(k); at.row < k; at.next()) {
    vectors[at.row * k + at.column] = work.vectors[at.row * n + work.order[at.column]];
  }
}

}  // namespace
}  // namespace HESSX_LEVEL
}  // namespace hessx

#define HESSX_EIGH(Real)                                                                      \
  extern "C" __global__ void __launch_bounds__(hessx::HESSX_LEVEL::MAX_THREADS)               \
      hessx_eigh_##Real(const Real* a, int64_t batch_stride, int64_t row_stride,              \
                        int64_t column_stride, int64_t k, Real* values, Real* vectors) {      \
    hessx::HESSX_LEVEL::eigh(a, batch_stride, row_stride, column_stride, k, values, vectors); \
  }

HESSX_EIGH(float)
HESSX_EIGH(double)
