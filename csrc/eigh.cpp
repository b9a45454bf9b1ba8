// Jacobi on the CPU: as many matrices as a vector register has lanes go through the rotations of
// eigh.h together, entry by entry. Entries of a group are vectors; a lane is a matrix.
#include "eigh.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "tile.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

template <class Real>
struct Lanes {
  typedef Real Vector __attribute__((vector_size(VECTOR_BYTES)));
};

template <class Real>
using Vector = typename Lanes<Real>::Vector;

// Of whatever is true for lanes.
template <class Real>
using Mask = decltype(Vector<Real>() < Vector<Real>());

template <class Mask>
bool any(Mask mask) {
  typedef int64_t Words __attribute__((vector_size(VECTOR_BYTES)));
  const Words words = reinterpret_cast<Words>(mask);
  int64_t all = 0;
  for (int i = 0; i < VECTOR_BYTES / 8; ++i) all |= words[i];
  return all != 0;
}

// Rotations that wait to be applied to the eigenvectors, so many that they and a few rows of
// eigenvectors stay in the first-level cache.
constexpr int MAX_WAITING = 128;

// Rows of eigenvectors that share the loads of a rotation.
constexpr int ROWS_AT_ONCE = 4;

// The matrices of one group and what has been done to them.
template <class Real>
class Group {
 public:
  static int64_t vectors_needed(int64_t k) {
    const int64_t n = padded_size(static_cast<int>(k));
    return n * (n + 1) / 2 + k * (n + 1) + n + 2 * MAX_WAITING + n;
  }

  Group(int k, Vector<Real>* storage)
      : k_(k),
        n_(padded_size(k)),
        stride_(n_ + 1),
        entries_(n_ * (n_ + 1) / 2),
        matrix_(storage),
        vectors_(matrix_ + entries_),
        rotations_(reinterpret_cast<Rotation<Vector<Real>>*>(vectors_ + k_ * stride_)),
        waiting_(rotations_ + n_ / 2),
        ranks_(reinterpret_cast<Mask<Real>*>(waiting_ + MAX_WAITING)) {
    for (int p = 0; p < n_; ++p) row_[p] = p * (p + 1) / 2;
  }

  void solve(const EighCall<Real>& call, int64_t first) {
    const int lanes = static_cast<int>(smaller(LANES<Real>, call.batch - first));
    load(call, first, lanes);
    scale();
    diagonalize();
    sort();
    store(call, first, lanes);
  }

 private:
  // An entry, found in the lower triangle. Without branches, which nothing could predict.
  Vector<Real>& at(int p, int q) const {
    const int high = p > q ? p : q;
    return matrix_[row_[high] + (p + q - high)];
  }

  void load(const EighCall<Real>& call, int64_t first, int lanes) {
    std::memset(matrix_, 0, (entries_ + k_ * stride_) * sizeof(Vector<Real>));
    for (int p = 0; p < k_; ++p) {
      vectors_[p * stride_ + p] += 1;
      for (int lane = 0; lane < lanes; ++lane) {
        const Real* from = call.a + (first + lane) * call.batch_stride + p * call.row_stride;
        Real* to = reinterpret_cast<Real*>(matrix_ + row_[p]) + lane;
        for (int q = 0; q <= p; ++q) to[q * LANES<Real>] = from[q * call.column_stride];
      }
    }
  }

  void scale() {
    Vector<Real> largest = {};
    for (int64_t i = 0; i < entries_; ++i) largest = larger(largest, magnitude(matrix_[i]));
    zero_or_nan_ = largest - largest;
    Vector<Real> down[2];
    for (int lane = 0; lane < LANES<Real>; ++lane) {
      const int exponent = zero_or_nan_[lane] == 0 ? exponent_of(largest[lane]) : 0;
      const PowerOfTwo<Real> lane_down(-exponent), lane_up(exponent);
      down[0][lane] = lane_down.first;
      down[1][lane] = lane_down.second;
      up_[0][lane] = lane_up.first;
      up_[1][lane] = lane_up.second;
    }
    // A matrix that is not finite is replaced by zeros, and its result by NaN in the end.
    const Mask<Real> finite = zero_or_nan_ == 0;
    const Vector<Real> zero = {};
    for (int64_t i = 0; i < entries_; ++i) {
      matrix_[i] = finite ? matrix_[i] * down[0] * down[1] : zero;
    }
  }

  void diagonalize() {
    const int around = n_ - 1;
    int step = 0;
    int quiet_steps = 0;
    for (int left = MAX_SWEEPS * around; left > 0 && quiet_steps < around; --left) {
      if (rotate_pairs(step)) {
        rotate_blocks();
        quiet_steps = 0;
      } else {
        ++quiet_steps;
      }
      step = step + 1 < around ? step + 1 : 0;
    }
    rotate_vectors();
  }

  // Says whether any pair of any lane was rotated.
  bool rotate_pairs(int step) {
    bool rotated = false;
    for (int i = 0; i < n_ / 2; ++i) {
      const Pair pair = pair_of(i, step, n_);
      Vector<Real>& pq = at(pair.p, pair.q);
      const Mask<Real> mask = magnitude(pq) > ROUNDING<Real>;
      pairs_[i] = pair;
      active_[i] = any(mask);
      if (!active_[i]) {
        rotations_[i] = {Vector<Real>{}, Vector<Real>{}};
        continue;
      }
      rotated = true;
      rotations_[i] = annihilate(at(pair.p, pair.p), at(pair.q, pair.q), pq, mask);
      if (n_waiting_ == MAX_WAITING) rotate_vectors();
      waiting_[n_waiting_] = rotations_[i];
      waiting_pairs_[n_waiting_++] = pair;
    }
    return rotated;
  }

  void rotate_blocks() {
    for (int i = 1; i < n_ / 2; ++i) {
      const Pair rows = pairs_[i];
      const Rotation<Vector<Real>> rotation = rotations_[i];
      for (int j = 0; j < i; ++j) {
        if (!active_[i] && !active_[j]) continue;
        const Pair columns = pairs_[j];
        Vector<Real>& pp = at(rows.p, columns.p);
        Vector<Real>& pq = at(rows.p, columns.q);
        Vector<Real>& qp = at(rows.q, columns.p);
        Vector<Real>& qq = at(rows.q, columns.q);
        Block<Vector<Real>> block = {pp, pq, qp, qq};
        rotate(rotation, rotations_[j], block);
        pp = block.pp;
        pq = block.pq;
        qp = block.qp;
        qq = block.qq;
      }
    }
  }

  void rotate_vectors() {
    int r = 0;
    for (; r + ROWS_AT_ONCE <= k_; r += ROWS_AT_ONCE) rotate_rows<ROWS_AT_ONCE>(r);
    for (; r < k_; ++r) rotate_rows<1>(r);
    n_waiting_ = 0;
  }

  template <int ROWS>
  void rotate_rows(int first) {
    Vector<Real>* rows = vectors_ + first * stride_;
    for (int i = 0; i < n_waiting_; ++i) {
      const Rotation<Vector<Real>> rotation = waiting_[i];
      Vector<Real>* p = rows + waiting_pairs_[i].p;
      Vector<Real>* q = rows + waiting_pairs_[i].q;
      for (int r = 0; r < ROWS; ++r) rotate(rotation, p[r * stride_], q[r * stride_]);
    }
  }

  // Ranks by comparison; equal values keep their places, so that the order is one and only.
  void sort() {
    for (int p = 0; p < k_; ++p) {
      Mask<Real> rank = {};
      const Vector<Real> value = at(p, p);
      for (int q = 0; q < p; ++q) {
        const Mask<Real> before = at(q, q) <= value;
        rank -= before;
        ranks_[q] += before + 1;
      }
      ranks_[p] = rank;
    }
  }

  void store(const EighCall<Real>& call, int64_t first, int lanes) {
    for (int p = 0; p < k_; ++p) {
      const Vector<Real> value = at(p, p) * up_[0] * up_[1] + zero_or_nan_;
      for (int lane = 0; lane < lanes; ++lane) {
        call.values[(first + lane) * k_ + ranks_[p][lane]] = value[lane];
      }
    }
    for (int r = 0; r < k_; ++r) {
      for (int p = 0; p < k_; ++p) vectors_[r * stride_ + p] += zero_or_nan_;
      const Real* from = reinterpret_cast<const Real*>(vectors_ + r * stride_);
      for (int lane = 0; lane < lanes; ++lane) {
        Real* to = call.vectors + ((first + lane) * k_ + r) * k_;
        for (int p = 0; p < k_; ++p) to[ranks_[p][lane]] = from[p * LANES<Real> + lane];
      }
    }
  }

  const int k_, n_;
  // Of the eigenvectors' rows: odd, because addresses 4096 bytes apart wait for each other.
  const int64_t stride_;
  const int64_t entries_;
  // The lower triangle, row after row.
  Vector<Real>* matrix_;
  Vector<Real>* vectors_;
  Rotation<Vector<Real>>* rotations_;
  Rotation<Vector<Real>>* waiting_;
  Mask<Real>* ranks_;
  int row_[MAX_K];
  Pair pairs_[MAX_K / 2];
  bool active_[MAX_K / 2];
  Pair waiting_pairs_[MAX_WAITING];
  int n_waiting_ = 0;
  Vector<Real> zero_or_nan_;
  // The two factors of the power of two that takes a lane's values to the scale of its matrix.
  Vector<Real> up_[2];
};

// Memory of each thread, allocated before any thread starts.
template <class Real>
class Storage {
 public:
  Storage(int64_t k, int n_threads)
      : stride_(Group<Real>::vectors_needed(k)),
        data_(static_cast<Vector<Real>*>(
            std::aligned_alloc(64, round_up(stride_ * n_threads * VECTOR_BYTES, 64)))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Storage() { std::free(data_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Vector<Real>* of(int thread) const { return data_ + thread * stride_; }

 private:
  int64_t stride_;
  Vector<Real>* data_;
};

template <class Real>
void eigh(const EighCall<Real>& call) {
  const Storage<Real> storage(call.k, call.n_threads);
  const int64_t groups = (call.batch + LANES<Real> - 1) / LANES<Real>;
  parallel_for(groups, call.n_threads, [&](int64_t group, int thread) {
    Group<Real>(static_cast<int>(call.k), storage.of(thread)).solve(call, group * LANES<Real>);
  });
}

}  // namespace

extern const EighKernels eigh_kernels;
const EighKernels eigh_kernels = {eigh<float>, eigh<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
