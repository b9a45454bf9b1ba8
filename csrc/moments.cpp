// Moments on the CPU: blocks of samples packed into panels, multiplied tile by tile.
#include "moments.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>
#include <type_traits>

#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "tile.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Bytes of packed columns that stay in the second-level cache next to the tiles.
constexpr int64_t PACKED_BYTES = 512 * 1024;

template <class Real>
constexpr int64_t COLUMNS_AT_ONCE = PACKED_BYTES / SAMPLE_BLOCK / sizeof(Real);

// Working storage of each thread, allocated before any thread starts.
template <class Real>
class Scratch {
 public:
  Scratch(int64_t columns, int64_t n, int n_threads)
      : columns_(round_up(smaller(columns, COLUMNS_AT_ONCE<Real>), MAX_COLUMNS<Real>) *
                 smaller(n, SAMPLE_BLOCK)),
        stride_(columns_ + round_up(MAX_ROWS * SAMPLE_BLOCK, 64) + MAX_ROWS * MAX_COLUMNS<Real>),
        data_(static_cast<Real*>(std::aligned_alloc(
            64, round_up(stride_ * n_threads * static_cast<int64_t>(sizeof(Real)), 64)))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Real* columns(int thread) const { return data_ + thread * stride_; }
  Real* rows(int thread) const { return columns(thread) + columns_; }
  Real* tile(int thread) const { return rows(thread) + round_up(MAX_ROWS * SAMPLE_BLOCK, 64); }

 private:
  int64_t columns_, stride_;
  Real* data_;
};

// What is multiplied: entry (sample, feature) of one element of the batch.
template <class Real>
struct Plain {
  const Real* x;
  int64_t row_stride, column_stride;
  Real operator()(int64_t s, int64_t j) const { return x[s * row_stride + j * column_stride]; }
};

template <class Real>
struct Weighted {
  Plain<Real> x;
  const Real* weight;
  int64_t stride;
  Real operator()(int64_t s, int64_t j) const { return weight[s * stride] * x(s, j); }
};

template <class Real>
struct Square {
  Plain<Real> x;
  Real operator()(int64_t s, int64_t j) const { return x(s, j) * x(s, j); }
};

template <class Real>
struct Product {
  Plain<Real> x, y;
  Real operator()(int64_t s, int64_t j) const { return x(s, j) * y(s, j); }
};

template <class Real>
Plain<Real> element(const Samples<Real>& samples, int64_t batch) {
  return {samples.data + batch * samples.batch_stride, samples.row_stride, samples.column_stride};
}

// A count that the compiler knows: rows of that many features become a few instructions.
template <int COUNT>
using Known = std::integral_constant<int, COUNT>;

template <class Real, class Source, class Count>
void copy_features(const Source& source, int64_t start, int64_t n, int64_t first, Count count,
                   int width, Real* panel) {
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t j = 0; j < count; ++j) panel[s * width + j] = source(start + s, first + j);
  }
}

// Copies features [first, first + count) of samples [start, start + n) into a panel of the given
// width, zeros beyond: they only reach entries that are never read.
template <class Real, class Source>
void pack(const Source& source, int64_t start, int64_t n, int64_t first, int64_t count, int width,
          Real* panel) {
  if (count < width) std::memset(panel, 0, n * width * sizeof(Real));
  const auto copy = [&](auto known) {
    copy_features(source, start, n, first, known, width, panel);
  };
  switch (count) {
    case 2: return copy(Known<2>());
    case 4: return copy(Known<4>());
    case MAX_ROWS: return copy(Known<MAX_ROWS>());
    case MAX_COLUMNS<float>: return copy(Known<MAX_COLUMNS<float>>());
    default: return copy(count);
  }
}

// Adds a tile, or stores it where it is the first block; columns [skip, columns) of it.
template <class Real>
void add_tile(const Real* tile, int64_t tile_columns, int64_t rows, int64_t skip, int64_t columns,
              bool first_block, double* out, int64_t out_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const Real* from = tile + i * tile_columns;
    double* to = out + i * out_stride;
    if (first_block) {
      for (int64_t j = skip; j < columns; ++j) to[j] = from[j];
    } else {
      for (int64_t j = skip; j < columns; ++j) to[j] += from[j];
    }
  }
}

// Row panels part, part + parts, part + 2 parts, ... of out (k, l) = sum_s a_s b_s^T. With
// `symmetric`, a and b are equal: entries left of a panel's first row are copied from their mirror
// images, which the same task computed.
template <class Real, class SourceA, class SourceB>
void product(const SourceA& a, const SourceB& b, int64_t n, int64_t k, int64_t l, bool symmetric,
             int64_t part, int64_t parts, const Scratch<Real>& scratch, int thread, double* out) {
  constexpr int WIDTH = MAX_COLUMNS<Real>;
  Real* columns = scratch.columns(thread);
  Real* rows = scratch.rows(thread);
  Real* tile = scratch.tile(thread);
  for (int64_t left = 0; left < l; left += COLUMNS_AT_ONCE<Real>) {
    const int64_t right = smaller(l, left + COLUMNS_AT_ONCE<Real>);
    for (int64_t start = 0; start < n; start += SAMPLE_BLOCK) {
      const int64_t block = smaller(SAMPLE_BLOCK, n - start);
      for (int64_t j = left; j < right; j += WIDTH) {
        pack(b, start, block, j, smaller(WIDTH, right - j), panel_columns<Real>(right - j),
             columns + (j - left) * block);
      }
      for (int64_t i = part * MAX_ROWS; i < k; i += parts * MAX_ROWS) {
        const int height = panel_rows(k - i);
        const int64_t used = smaller(height, k - i);
        pack(a, start, block, i, used, height, rows);
        for (int64_t j = left; j < right; j += WIDTH) {
          const int64_t filled = smaller(WIDTH, right - j);
          const int64_t skip = symmetric && j < i ? i - j : 0;
          if (skip >= filled) continue;
          const int width = panel_columns<Real>(right - j);
          tile_of_shape(height, width, rows, columns + (j - left) * block, block, tile);
          add_tile(tile, width, used, skip, filled, start == 0, out + i * l + j, l);
        }
      }
    }
  }
  if (!symmetric) return;
  // Eight columns at a time: a cache line of each row is read once.
  for (int64_t i = part * MAX_ROWS; i < k; i += parts * MAX_ROWS) {
    const int64_t below = smaller(k, i + MAX_ROWS);
    for (int64_t left = below; left < k; left += 8) {
      const int64_t right = smaller(k, left + 8);
      for (int64_t row = i; row < below; ++row) {
        for (int64_t j = left; j < right; ++j) out[j * k + row] = out[row * k + j];
      }
    }
  }
}

int64_t greatest_common_divisor(int64_t a, int64_t b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

// Parts into which the rows of one product are split so that all threads have equal work.
int64_t parts_of(int64_t batch, int64_t k, int64_t n_threads) {
  if (batch >= 4 * n_threads) return 1;
  return smaller(n_threads / greatest_common_divisor(batch, n_threads), ceil_div(k, MAX_ROWS));
}

void set_zero(double* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = 0;
}

// Columns of a sum that one task takes: few enough for the partial sums to stay in registers.
constexpr int STRIP = 64;

template <class Real, class Count>
void add_samples(const SumsCall<Real>& call, int64_t batch, int64_t first, Count count,
                 double* out) {
  const Plain<Real> x = element(call.x, batch);
  const Weights<Real>& w = call.weight;
  for (int64_t start = 0; start < call.n; start += SAMPLE_BLOCK) {
    const int64_t end = smaller(call.n, start + SAMPLE_BLOCK);
    Real partial[STRIP] = {};
    for (int64_t s = start; s < end; ++s) {
      const Real weight =
          w.data == nullptr ? Real(1) : w.data[batch * w.batch_stride + s * w.stride];
      for (int64_t j = 0; j < count; ++j) {
        const Real value = x(s, first + j);
        partial[j] += weight * (call.squares ? value * value : value);
      }
    }
    for (int64_t j = 0; j < count; ++j) out[j] += partial[j];
  }
}

template <class Real>
void sums(const SumsCall<Real>& call) {
  const int64_t strips = ceil_div(call.k, STRIP);
  parallel_for(call.batch * strips, call.n_threads, [&](int64_t task, int) {
    const int64_t batch = task / strips;
    const int64_t first = task % strips * STRIP;
    const int64_t count = smaller(STRIP, call.k - first);
    double* out = call.out + batch * call.k + first;
    set_zero(out, count);
    if (count == STRIP) {
      add_samples(call, batch, first, Known<STRIP>(), out);
    } else {
      add_samples(call, batch, first, count, out);
    }
  });
}

template <class Real>
void cross_moments(const CrossMomentsCall<Real>& call) {
  if (call.n == 0) return set_zero(call.uv, call.batch * call.k * call.l);
  const int64_t parts = parts_of(call.batch, call.k, call.n_threads);
  const Scratch<Real> scratch(call.l, call.n, call.n_threads);
  parallel_for(call.batch * parts, call.n_threads, [&](int64_t task, int thread) {
    const int64_t batch = task / parts;
    const Plain<Real> u = element(call.u, batch);
    const Plain<Real> v = element(call.v, batch);
    double* uv = call.uv + batch * call.k * call.l;
    const auto run = [&](const auto& rows) {
      product(rows, v, call.n, call.k, call.l, false, task % parts, parts, scratch, thread, uv);
    };
    if (call.weight.data == nullptr) {
      run(u);
    } else {
      run(Weighted<Real>{u, call.weight.data + batch * call.weight.batch_stride,
                         call.weight.stride});
    }
  });
}

template <class Real>
void core_moments(const CoreMomentsCall<Real>& call) {
  const int64_t k = call.k;
  if (call.n == 0) {
    for (double* out : {call.uw, call.u2w2, call.cross}) set_zero(out, call.batch * k * k);
    return;
  }
  const int64_t parts = parts_of(call.batch, k, call.n_threads);
  const Scratch<Real> scratch(k, call.n, call.n_threads);
  parallel_for(call.batch * parts, call.n_threads, [&](int64_t task, int thread) {
    const int64_t batch = task / parts;
    const Plain<Real> u = element(call.u, batch);
    const Plain<Real> w = element(call.w, batch);
    const auto run = [&](const auto& rows, const auto& columns, bool symmetric, double* out) {
      product(rows, columns, call.n, k, k, symmetric, task % parts, parts, scratch, thread,
              out + batch * k * k);
    };
    run(u, w, false, call.uw);
    run(Square<Real>{u}, Square<Real>{w}, false, call.u2w2);
    const Product<Real> uw = {u, w};
    run(uw, uw, true, call.cross);
  });
}

}  // namespace

extern const MomentsKernels moments_kernels;
const MomentsKernels moments_kernels = {sums<float>,          sums<double>,
                                        cross_moments<float>, cross_moments<double>,
                                        core_moments<float>,  core_moments<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
