// Steps on the edges of grids on the CPU: one pass over memory in vector registers, blocks of rows
// shared out to threads.
#include "edges.h"

#include <cstdlib>
#include <new>

#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Numbers of one task: some microseconds of work.
constexpr int64_t NUMBERS_PER_TASK = 4096;

// Calls body(i, Value{}) for the places i of vectors that fill [begin, end): whole registers, then
// halves, quarters... of one.
template <class Real, int COUNT = LANES<Real>, class Body>
void over_lanes(int64_t begin, int64_t end, const Body& body) {
  int64_t i = begin;
  for (; i + COUNT <= end; i += COUNT) body(i, Vector<Real, COUNT>{});
  if constexpr (COUNT > 1) over_lanes<Real, COUNT / 2>(i, end, body);
}

// What a row of the batch has beside its vectors.
template <class Real>
struct Box {
  Real radius, threshold;

  template <class Value>
  Value prox(Value z, Value centre) const {
    return edge_prox_of(z, centre, broadcast<Value>(radius), broadcast<Value>(threshold));
  }
};

template <class Real>
void edge_prox(const EdgeProxCall<Real>& call) {
  const int64_t blocks = ceil_div(call.m, NUMBERS_PER_TASK);
  parallel_for(call.rows * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t row = task / blocks;
    const int64_t begin = task % blocks * NUMBERS_PER_TASK;
    const int64_t at = row * call.m;
    const Box<Real> box = {call.radius[row], call.threshold[row]};
    over_lanes<Real>(
        at + begin, at + smaller(begin + NUMBERS_PER_TASK, call.m), [&](int64_t i, auto tag) {
          using Value = decltype(tag);
          store(call.out + i, box.prox(load<Value>(call.z + i), load<Value>(call.centre + i)));
        });
  });
}

// The reflected point 2 a - z of one row of the batch, by edges.
template <class Real>
struct Reflection {
  const Real *z, *centre;
  Box<Real> box;

  template <class Value>
  Value at(int64_t edge) const {
    const Value x = load<Value>(z + edge);
    return 2 * box.prox(x, load<Value>(centre + edge)) - x;
  }
};

// Row i of D^T b; of b = 2 a - z each number is made again where it is used, which costs less than
// to keep it.
template <class Real>
void divergence_row(const Reflection<Real>& b, int64_t i, int64_t p1, int64_t p2, Real* out) {
  const int64_t right = i * (p2 - 1);
  const int64_t below = p1 * (p2 - 1) + i * p2;
  const auto vertical = [&](int64_t j, auto tag) {
    using Value = decltype(tag);
    const Value above = i > 0 ? b.template at<Value>(below - p2 + j) : Value{};
    return i + 1 < p1 ? above - b.template at<Value>(below + j) : above;
  };
  const Real arriving = p2 > 1 ? b.template at<Real>(right + p2 - 2) : 0;
  const Real leaving = p2 > 1 ? b.template at<Real>(right) : 0;
  out[0] = -leaving + vertical(0, Real{});
  over_lanes<Real>(1, p2 - 1, [&](int64_t j, auto tag) {
    using Value = decltype(tag);
    const Value along = b.template at<Value>(right + j - 1) - b.template at<Value>(right + j);
    store(out + j, along + vertical(j, tag));
  });
  if (p2 > 1) out[p2 - 1] = arriving + vertical(p2 - 1, Real{});
}

int64_t rows_of_block(int64_t p2) { return ceil_div(NUMBERS_PER_TASK, p2); }

template <class Real>
void edge_divergence(const EdgeDivergenceCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2;
  const int64_t m = p1 * (p2 - 1) + (p1 - 1) * p2;
  const int64_t height = rows_of_block(p2);
  const int64_t blocks = ceil_div(p1, height);
  parallel_for(call.rows * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t row = task / blocks;
    const int64_t begin = task % blocks * height;
    const Reflection<Real> b = {
        call.z + row * m, call.centre + row * m, {call.radius[row], call.threshold[row]}};
    for (int64_t i = begin; i < smaller(begin + height, p1); ++i) {
      divergence_row(b, i, p1, p2, call.out + (row * p1 + i) * p2);
    }
  });
}

// Sums of squares in float64, one for each lane of vectors of each width.
template <class Real, int COUNT = LANES<Real>>
struct Squares : Squares<Real, COUNT / 2> {
  using Half = Squares<Real, COUNT / 2>;
  using Half::add;
  using Wide = Vector<double, COUNT>;

  void add(const Vector<Real, COUNT>& x) {
    const auto wide = __builtin_convertvector(x, Wide);
    lanes += wide * wide;
  }

  double total() const {
    double sum = Half::total();
    for (int lane = 0; lane < COUNT; ++lane) sum += lanes[lane];
    return sum;
  }

 private:
  Wide lanes{};
};

template <class Real>
struct Squares<Real, 1> {
  void add(Real x) { sum += static_cast<double>(x) * static_cast<double>(x); }
  double total() const { return sum; }

 private:
  double sum = 0;
};

// Where one row of the batch lies, and its numbers.
template <class Real>
struct UpdateRow {
  const Real *z, *anchor, *centre, *potential;
  Real* next;
  Box<Real> box;
  Real weight;

  // `count` edges in line, the first one from pixel `tail` to pixel `head`.
  void advance(int64_t edge, int64_t tail, int64_t head, int64_t count,
               Squares<Real>& squares) const {
    over_lanes<Real>(0, count, [&](int64_t k, auto tag) {
      using Value = decltype(tag);
      const Value x = load<Value>(z + edge + k);
      const Value difference =
          load<Value>(potential + head + k) - load<Value>(potential + tail + k);
      const Value step = difference - box.prox(x, load<Value>(centre + edge + k));
      const Value w = broadcast<Value>(weight);
      store(next + edge + k, w * (x + 2 * step) + (1 - w) * load<Value>(anchor + edge + k));
      squares.add(step);
    });
  }
};

// The edges that begin in rows [begin, end); gives the sum of their squares.
template <class Real>
double update_rows(const UpdateRow<Real>& row, int64_t begin, int64_t end, int64_t p1, int64_t p2) {
  Squares<Real> squares;
  for (int64_t i = begin; i < end; ++i) {
    row.advance(i * (p2 - 1), i * p2, i * p2 + 1, p2 - 1, squares);
  }
  const int64_t above = begin * p2;
  const int64_t vertical = smaller(end, p1 - 1) * p2 - above;
  row.advance(p1 * (p2 - 1) + above, above, above + p2, vertical, squares);
  return squares.total();
}

template <class Real>
void edge_update(const EdgeUpdateCall<Real>& call) {
  const int64_t p1 = call.p1, p2 = call.p2;
  const int64_t m = p1 * (p2 - 1) + (p1 - 1) * p2;
  const int64_t height = rows_of_block(p2);
  const int64_t blocks = ceil_div(p1, height);
  const int64_t bytes = (call.rows * blocks + 1) * static_cast<int64_t>(sizeof(double));
  double* partial = static_cast<double*>(std::malloc(bytes));
  if (partial == nullptr) throw std::bad_alloc();
  parallel_for(call.rows * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t row = task / blocks;
    const int64_t begin = task % blocks * height;
    const UpdateRow<Real> update = {call.z + row * m,      call.anchor + row * m,
                                    call.centre + row * m, call.potential + row * p1 * p2,
                                    call.next + row * m,   {call.radius[row], call.threshold[row]},
                                    call.weight[row]};
    partial[task] = update_rows(update, begin, smaller(begin + height, p1), p1, p2);
  });
  for (int64_t row = 0; row < call.rows; ++row) {
    call.residual[row] = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      call.residual[row] += partial[row * blocks + block];
    }
  }
  std::free(partial);
}

}  // namespace

extern const EdgesKernels edges_kernels;
const EdgesKernels edges_kernels = {edge_prox<float>,       edge_prox<double>,
                                    edge_divergence<float>, edge_divergence<double>,
                                    edge_update<float>,     edge_update<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
