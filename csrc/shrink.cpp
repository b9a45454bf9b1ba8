// Soft threshold and FISTA step on the CPU: one pass over blocks of columns in vector registers,
// blocks shared out to threads.
#include "shrink.h"

#include <cstdlib>
#include <new>

#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "real.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

template <class Real>
double sum_of(Real x) {
  return x;
}

template <class Real>
double sum_of(const Vector<Real>& x) {
  double sum = 0;
  for (int lane = 0; lane < LANES<Real>; ++lane) sum += x[lane];
  return sum;
}

template <class Real>
void soft_threshold(const SoftThresholdCall<Real>& call) {
  const int64_t blocks = ceil_div(call.d, COLUMN_BLOCK);
  parallel_for(call.rows * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t row = task / blocks;
    const int64_t begin = task % blocks * COLUMN_BLOCK;
    const Real* x = call.x + row * call.d + begin;
    Real* out = call.out + row * call.d + begin;
    const Real threshold = call.threshold[row];
    const int64_t count = smaller(COLUMN_BLOCK, call.d - begin);
    const int64_t whole = count - count % LANES<Real>;
    for (int64_t i = 0; i < whole; i += LANES<Real>) {
      store(out + i,
            soft_threshold_of(load<Vector<Real>>(x + i), broadcast<Vector<Real>>(threshold)));
    }
    for (int64_t i = whole; i < count; ++i) out[i] = soft_threshold_of(x[i], threshold);
  });
}

// Where one row of a step lies, from its first column on.
template <class Real>
struct FistaRow {
  const Real *gradient, *product, *point, *previous;
  Real *next, *extrapolated;
};

template <class Value>
struct FistaSums {
  Value gradient{}, magnitude{}, square{}, change{}, zeros{};
};

// Columns [begin, end), one Value at a time.
template <class Value, class Real>
FistaSums<Value> step_columns(const FistaRow<Real>& row, const FistaNumbers<Real>& numbers,
                              int64_t begin, int64_t end) {
  const FistaNumbers<Value> wide = {
      broadcast<Value>(numbers.step), broadcast<Value>(numbers.momentum),
      broadcast<Value>(numbers.threshold), broadcast<Value>(numbers.twice_lambda2)};
  constexpr int64_t WIDTH = sizeof(Value) / sizeof(Real);
  FistaSums<Value> sums;
  for (int64_t i = begin; i < end; i += WIDTH) {
    const Value gradient = load<Value>(row.gradient + i);
    const Value next =
        fista_next(wide, gradient, load<Value>(row.product + i), load<Value>(row.point + i));
    const Value change = next - load<Value>(row.previous + i);
    store(row.next + i, next);
    store(row.extrapolated + i, next + wide.momentum * change);
    sums.gradient += gradient * next;
    sums.magnitude += magnitude(next);
    sums.square += next * next;
    sums.change += change * change;
    sums.zeros += next == 0 ? broadcast<Value>(Real(1)) : Value{};
  }
  return sums;
}

template <class Real, class Value>
void add_sums(const FistaSums<Value>& sums, double* to) {
  to[0] += sum_of<Real>(sums.gradient);
  to[1] += sum_of<Real>(sums.magnitude);
  to[2] += sum_of<Real>(sums.square);
  to[3] += sum_of<Real>(sums.change);
  to[4] += sum_of<Real>(sums.zeros);
}

template <class Real>
void step_block(const FistaCall<Real>& call, int64_t batch, int64_t row, int64_t begin,
                double* sums) {
  const int64_t at = row * call.d + begin;
  const Real step = call.step[row];
  const FistaNumbers<Real> numbers = {step, call.momentum[row], step * call.lambda1[row],
                                      2 * call.lambda2[row]};
  const FistaRow<Real> from = {call.gradient + batch * call.d + begin,
                               call.product + at,
                               call.point + at,
                               call.previous + at,
                               call.next + at,
                               call.extrapolated + at};
  const int64_t count = smaller(COLUMN_BLOCK, call.d - begin);
  const int64_t whole = count - count % LANES<Real>;
  for (int i = 0; i < FISTA_SUMS; ++i) sums[i] = 0;
  add_sums<Real>(step_columns<Vector<Real>>(from, numbers, 0, whole), sums);
  add_sums<Real>(step_columns<Real>(from, numbers, whole, count), sums);
}

template <class Real>
void fista_step(const FistaCall<Real>& call) {
  const int64_t blocks = ceil_div(call.d, COLUMN_BLOCK);
  const int64_t rows = call.batch * call.m;
  const int64_t bytes = (rows * blocks * FISTA_SUMS + 1) * static_cast<int64_t>(sizeof(double));
  double* partial = static_cast<double*>(std::malloc(bytes));
  if (partial == nullptr) throw std::bad_alloc();
  // One task takes a block of all rows that share a gradient: it is read from memory once.
  parallel_for(call.batch * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t batch = task / blocks;
    const int64_t block = task % blocks;
    for (int64_t row = batch * call.m; row < (batch + 1) * call.m; ++row) {
      step_block(call, batch, row, block * COLUMN_BLOCK,
                 partial + (row * blocks + block) * FISTA_SUMS);
    }
  });
  for (int64_t row = 0; row < rows; ++row) {
    double* sums = call.sums + row * FISTA_SUMS;
    for (int i = 0; i < FISTA_SUMS; ++i) sums[i] = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      for (int i = 0; i < FISTA_SUMS; ++i)
        sums[i] += partial[(row * blocks + block) * FISTA_SUMS + i];
    }
  }
  std::free(partial);
}

}  // namespace

extern const ShrinkKernels shrink_kernels;
const ShrinkKernels shrink_kernels = {soft_threshold<float>, soft_threshold<double>,
                                      fista_step<float>, fista_step<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
