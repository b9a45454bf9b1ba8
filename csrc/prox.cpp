// The prox pass on the CPU: one pass over memory, tile by tile. Active columns are packed, and
// their inner products taken when there are enough of them, so that sparse points and several
// lambdas do not pay for short sums.
#include "prox.h"

#include <cstring>

#include "array.h"
#include "counts.h"
#include "inner_products.h"
#include "levels.h"
#include "parallel.h"
#include "real.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Columns of a tile: a row's part is in the first-level cache, 100 rows' in the second.
constexpr int TILE = 512;
// Packed columns whose inner products are taken together, and their distance from row to row, with
// what keeps rows from falling into the same sets of the cache.
constexpr int PACKED = 512;
constexpr int STRIDE = PACKED + 16;
// Runs of tiles that are added up on their own. A fixed number, so that no bit of the result
// depends on the number of threads.
constexpr int64_t CHUNKS = 8;
// Lambdas that share one pass over the basis; it bounds the working storage.
constexpr int MAX_TOGETHER = 8;

// The tiles of one chunk.
struct Chunks {
  explicit Chunks(int64_t d)
      : d(d), size(ceil_div(ceil_div(d, TILE), CHUNKS) * TILE), count(d ? ceil_div(d, size) : 0) {}

  template <class Body>
  void for_tiles(int64_t chunk, const Body& body) const {
    const int64_t end = smaller(d, (chunk + 1) * size);
    for (int64_t start = chunk * size; start < end; start += TILE) {
      body(start, static_cast<int>(smaller(TILE, end - start)));
    }
  }

  int64_t d, size, count;
};

// A set of columns whose inner products are wanted: packed until they are many, then added to
// `gram` (r, r), of which only the upper triangle is right. `used`: gram holds something.
template <class Real>
struct Bin {
  void append(TileRows<Real> rows, int64_t r, const int* columns, int count) {
    while (count > 0) {
      const int taken = static_cast<int>(smaller(count, PACKED - filled));
      for (int64_t k = 0; k < r; ++k) {
        const Real* from = rows[k];
        Real* to = packed + k * STRIDE + filled;
        for (int i = 0; i < taken; ++i) to[i] = from[columns[i]];
      }
      filled += taken;
      columns += taken;
      count -= taken;
      if (filled == PACKED) flush(r);
    }
  }

  void flush(int64_t r) {
    if (filled == 0) return;
    if (!*used) std::memset(gram, 0, r * r * sizeof(double));
    *used = true;
    const TileRows<Real> rows = {packed, STRIDE};
    add_inner_products(rows, r, rows, r, filled, true, gram, r);
    filled = 0;
  }

  Real* packed;
  double* gram;
  bool* used;
  int filled;
};

// Entries of S(u, lambda1). NaN fails the comparison and stays NaN.
template <class T>
T soft_threshold(T u, T lambda1) {
  return magnitude(u) <= lambda1 ? T{} : u - (u < 0 ? -lambda1 : lambda1);
}

// point (n) = S(point, lambda1); adds |s|_2^2, |s|_1, gradient . s and the zeros to sums.
template <class Real>
void shrink(Real* point, const Real* gradient, Real lambda1, int n, double* sums) {
  using Vector = Lanes<Real>;
  Vector squares = {}, magnitudes = {}, along = {};
  decltype(squares == squares) zeros = {};
  int i = 0;
  for (; i + LANES<Real> <= n; i += LANES<Real>) {
    const Vector s = soft_threshold<Vector>(lanes_at(point + i), Vector{} + lambda1);
    std::memcpy(point + i, &s, sizeof(s));
    squares += s * s;
    magnitudes += magnitude(s);
    along += s * lanes_at(gradient + i);
    zeros -= s == Vector{};
  }
  sums[0] += sum_of_lanes<Real>(squares);
  sums[1] += sum_of_lanes<Real>(magnitudes);
  sums[2] += sum_of_lanes<Real>(along);
  for (int lane = 0; lane < LANES<Real>; ++lane) sums[3] += zeros[lane];
  for (; i < n; ++i) {
    const Real s = point[i] = soft_threshold(point[i], lambda1);
    sums[0] += s * s;
    sums[1] += magnitude(s);
    sums[2] += s * gradient[i];
    sums[3] += s == 0;
  }
}

// point (n) = gradient + basis^T z, four rows at a time.
template <class Real>
void model_gradient(TileRows<Real> basis, const Real* gradient, const Real* z, int64_t r, int n,
                    Real* point) {
  std::memcpy(point, gradient, n * sizeof(Real));
  int64_t k = 0;
  for (; k + 4 <= r; k += 4) {
    const Real *b0 = basis[k], *b1 = basis[k + 1], *b2 = basis[k + 2], *b3 = basis[k + 3];
    const Real z0 = z[k], z1 = z[k + 1], z2 = z[k + 2], z3 = z[k + 3];
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) point[i] += z0 * b0[i] + z1 * b1[i] + z2 * b2[i] + z3 * b3[i];
  }
  for (; k < r; ++k) {
    const Real *b = basis[k], z0 = z[k];
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) point[i] += z0 * b[i];
  }
}

// What one chunk adds up for a group of lambdas.
struct Partial {
  double *w, *sums, *grams;
  bool* used;
};

// Copies the part of row i left of the diagonal from its mirror image.
void mirror_row(double* matrix, int64_t size, int64_t i) {
  for (int64_t j = 0; j < i; ++j) matrix[i * size + j] = matrix[j * size + i];
}

// Lambdas of one row of the batch, at most MAX_TOGETHER, that share a pass.
//
// In ascending order of lambda the active sets are nearly nested: a column is active for the first
// few lambdas and for none after. Bin c - 1 takes the columns that are active for exactly the first
// c, so that all Gram matrices together cost one: that of a lambda is a sum over bins. A column
// that is active again further on also goes to a bin of that lambda alone.
template <class Real>
class Group {
 public:
  Group(const ProxPassCall<Real>& call, int64_t batch, int64_t first)
      : call_(call),
        basis_(call.basis.data + batch * call.basis.batch_stride),
        gradient_(call.gradient + batch * call.gradient_stride),
        first_(batch * call.lambdas + first),
        count_(static_cast<int>(smaller(MAX_TOGETHER, call.lambdas - first))) {
    const Real* lambda1 = call.lambda1 + first_;
    for (int m = 0; m < count_; ++m) {
      int at = m;
      for (; at > 0 && lambda1[order_[at - 1]] > lambda1[m]; --at) order_[at] = order_[at - 1];
      order_[at] = m;
    }
  }

  static int bins(int64_t lambdas) {
    return lambdas > 1 ? 2 * static_cast<int>(smaller(lambdas, MAX_TOGETHER)) : 1;
  }

  // points: count x TILE numbers, packed: bins x r x STRIDE.
  void add_chunk(const Chunks& chunks, int64_t chunk, Real* points, Real* packed,
                 const Partial& to) const {
    const int64_t r = call_.r;
    const int n_bins = call_.gram == nullptr ? 0 : bins(count_);
    Bin<Real> bin[2 * MAX_TOGETHER];
    for (int c = 0; c < n_bins; ++c) {
      bin[c] = {packed + c * r * STRIDE, to.grams + c * r * r, to.used + c, 0};
      to.used[c] = false;
    }
    std::memset(to.w, 0, count_ * r * sizeof(double));
    std::memset(to.sums, 0, count_ * 4 * sizeof(double));
    chunks.for_tiles(chunk, [&](int64_t start, int n) {
      const TileRows<Real> basis = {basis_ + start, call_.basis.row_stride};
      for (int m = 0; m < count_; ++m) {
        Real* point = points + m * TILE;
        const Real* z = call_.z + (first_ + m) * r;
        model_gradient(basis, gradient_ + start, z, r, n, point);
        shrink(point, gradient_ + start, call_.lambda1[first_ + m], n, to.sums + 4 * m);
      }
      add_inner_products<Real>({points, TILE}, count_, basis, r, n, false, to.w, r);
      if (n_bins > 0) sort_columns(points, n, basis, bin);
    });
    for (int c = 0; c < n_bins; ++c) bin[c].flush(r);
  }

  // Rows [k, k + 1) of the Gram matrices, upper triangle, from the chunks' bins in order.
  void add_bins(int64_t k, const Partial* partials, int64_t chunks) const {
    const int64_t r = call_.r;
    const int n_bins = bins(count_);
    // From the last lambda to the first: each has the columns of the one after it, and its own.
    const double* after = nullptr;
    for (int c = count_ - 1; c >= 0; --c) {
      double* out = call_.gram + ((first_ + order_[c]) * r + k) * r;
      for (int64_t l = k; l < r; ++l) out[l] = after == nullptr ? 0 : after[l];
      for (int64_t chunk = 0; chunk < chunks; ++chunk) add_row(partials[chunk], c, k, out);
      after = out;
    }
    for (int c = count_; c < n_bins; ++c) {
      double* out = call_.gram + ((first_ + order_[c - count_]) * r + k) * r;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) add_row(partials[chunk], c, k, out);
    }
  }

  void add_sums(const Partial& partial) const {
    double *w = call_.w + first_ * call_.r, *sums = call_.sums + first_ * 4;
    for (int64_t i = 0; i < count_ * call_.r; ++i) w[i] += partial.w[i];
    for (int64_t i = 0; i < count_ * 4; ++i) sums[i] += partial.sums[i];
  }

 private:
  void add_row(const Partial& partial, int bin, int64_t k, double* out) const {
    if (!partial.used[bin]) return;
    const int64_t r = call_.r;
    const double* from = partial.grams + (bin * r + k) * r;
    for (int64_t l = k; l < r; ++l) out[l] += from[l];
  }

  // Hands the columns of a tile to their bins.
  void sort_columns(const Real* points, int n, TileRows<Real> basis, Bin<Real>* bin) const {
    int columns[TILE];
    if (count_ == 1) {
      bin[0].append(basis, call_.r, columns, nonzeros(points, n, columns));
      return;
    }
    int prefix[TILE] = {}, again[TILE];
    for (int c = 0; c < count_; ++c) {
      const Real* point = points + order_[c] * TILE;
      int strays = 0;
      for (int i = 0; i < n; ++i) {
        const int active = point[i] != 0, nested = active & (prefix[i] == c);
        prefix[i] += nested;
        again[i] = active - nested;
        strays += again[i];
      }
      if (strays > 0) bin[count_ + c].append(basis, call_.r, columns, nonzeros(again, n, columns));
    }
    int begin[MAX_TOGETHER + 2] = {};
    for (int i = 0; i < n; ++i) ++begin[prefix[i] + 1];
    for (int c = 1; c <= count_; ++c) begin[c + 1] += begin[c];
    int end[MAX_TOGETHER + 1];
    std::memcpy(end, begin, sizeof(end));
    for (int i = 0; i < n; ++i) columns[end[prefix[i]]++] = i;
    for (int c = 1; c <= count_; ++c) {
      bin[c - 1].append(basis, call_.r, columns + begin[c], end[c] - begin[c]);
    }
  }

  template <class T>
  static int nonzeros(const T* x, int n, int* columns) {
    int count = 0;
    for (int i = 0; i < n; ++i) {
      columns[count] = i;
      count += x[i] != 0;
    }
    return count;
  }

  const ProxPassCall<Real>& call_;
  const Real *basis_, *gradient_;
  int64_t first_;
  int count_;
  int order_[MAX_TOGETHER];
};

template <class Real>
void prox_pass(const ProxPassCall<Real>& call) {
  const int64_t r = call.r, lambdas = call.lambdas;
  const Chunks chunks(call.d);
  const int64_t groups = ceil_div(lambdas, MAX_TOGETHER);
  const int64_t together = smaller(lambdas, MAX_TOGETHER);
  const int64_t n_bins = call.gram == nullptr ? 0 : Group<Real>::bins(lambdas);
  const int64_t tasks = call.batch * groups * chunks.count;
  const int threads = static_cast<int>(smaller(call.n_threads, tasks));
  const Array<Real> points(threads * together * TILE);
  const Array<Real> packed(threads * n_bins * r * STRIDE);
  const Array<double> sums(tasks * together * (r + 4)), grams(tasks * n_bins * r * r);
  const Array<bool> used(tasks * n_bins);
  const Array<Partial> partials(tasks);
  const auto group_of = [&](int64_t g) {
    return Group<Real>(call, g / groups, g % groups * MAX_TOGETHER);
  };
  parallel_for(tasks, threads, [&](int64_t task, int thread) {
    double* w = sums + task * together * (r + 4);
    Partial& partial = *(partials + task);
    partial = {w, w + together * r, grams + task * n_bins * r * r, used + task * n_bins};
    group_of(task / chunks.count)
        .add_chunk(chunks, task % chunks.count, points + thread * together * TILE,
                   packed + thread * n_bins * r * STRIDE, partial);
  });
  std::memset(call.w, 0, call.batch * lambdas * r * sizeof(double));
  std::memset(call.sums, 0, call.batch * lambdas * 4 * sizeof(double));
  for (int64_t task = 0; task < tasks; ++task) {
    group_of(task / chunks.count).add_sums(*(partials + task));
  }
  if (call.gram == nullptr) return;
  parallel_for(call.batch * groups * r, call.n_threads, [&](int64_t task, int) {
    group_of(task / r).add_bins(task % r, partials + task / r * chunks.count, chunks.count);
  });
  parallel_for(call.batch * lambdas * r, call.n_threads,
               [&](int64_t task, int) { mirror_row(call.gram + task / r * r * r, r, task % r); });
}

template <class Real>
void gram(const GramCall<Real>& call) {
  const int64_t rows = call.rows;
  const Chunks chunks(call.d);
  const int64_t tasks = call.batch * chunks.count;
  const int threads = static_cast<int>(smaller(call.n_threads, tasks));
  const Array<double> partials(tasks * rows * rows);
  const Array<Real> packed(threads * rows * STRIDE);
  parallel_for(tasks, threads, [&](int64_t task, int thread) {
    const Real* x = call.x.data + task / chunks.count * call.x.batch_stride;
    double* partial = partials + task * rows * rows;
    std::memset(partial, 0, rows * rows * sizeof(double));
    chunks.for_tiles(task % chunks.count, [&](int64_t start, int n) {
      Real* copy = packed + thread * rows * STRIDE;
      for (int64_t i = 0; i < rows; ++i) {
        std::memcpy(copy + i * STRIDE, x + i * call.x.row_stride + start, n * sizeof(Real));
      }
      const TileRows<Real> tile = {copy, STRIDE};
      add_inner_products(tile, rows, tile, rows, n, true, partial, rows);
    });
  });
  parallel_for(call.batch * rows, call.n_threads, [&](int64_t task, int) {
    const int64_t batch = task / rows, i = task % rows;
    double* out = call.gram + task * rows;
    for (int64_t j = i; j < rows; ++j) out[j] = 0;
    for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
      const double* from = partials + ((batch * chunks.count + chunk) * rows + i) * rows;
      for (int64_t j = i; j < rows; ++j) out[j] += from[j];
    }
  });
  parallel_for(call.batch * rows, call.n_threads, [&](int64_t task, int) {
    mirror_row(call.gram + task / rows * rows * rows, rows, task % rows);
  });
}

}  // namespace

extern const ProxKernels prox_kernels;
const ProxKernels prox_kernels = {prox_pass<float>, prox_pass<double>, gram<float>, gram<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
