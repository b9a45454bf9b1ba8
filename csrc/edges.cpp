// Steps on the edges of grids on the CPU: one pass over memory in vector registers, bands of rows
// shared out to threads.
#include "edges.h"

#include "counts.h"
#include "edge_rows.h"
#include "levels.h"
#include "parallel.h"
#include "vectors.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Edges of one task of the prox: some microseconds of work.
constexpr int64_t EDGES_PER_TASK = 4096;

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
  const int64_t blocks = ceil_div(call.m, EDGES_PER_TASK);
  parallel_for(call.rows * blocks, call.n_threads, [&](int64_t task, int) {
    const int64_t row = task / blocks;
    const int64_t begin = task % blocks * EDGES_PER_TASK;
    const int64_t at = row * call.m;
    const Box<Real> box = {call.radius[row], call.threshold[row]};
    over_lanes<Real>(
        at + begin, at + smaller(begin + EDGES_PER_TASK, call.m), [&](int64_t i, auto tag) {
          using Value = decltype(tag);
          store(call.out + i, box.prox(load<Value>(call.z + i), load<Value>(call.centre + i)));
        });
  });
}

// The reflected point 2 a - z of edges [begin, end) of one row of the batch.
template <class Real>
void reflect(const Real* z, const Real* centre, const Box<Real>& box, int64_t begin, int64_t end,
             Real* out) {
  over_lanes<Real>(begin, end, [&](int64_t i, auto tag) {
    using Value = decltype(tag);
    const Value x = load<Value>(z + i);
    store(out + (i - begin), 2 * box.prox(x, load<Value>(centre + i)) - x);
  });
}

template <class Real>
void edge_divergence(const EdgeDivergenceCall<Real>& call) {
  const Grid grid(call.p1, call.p2);
  const int64_t bands = grid.bands();
  const int64_t room = grid.rows_of_band() * grid.p2;
  const Scratch<Real> scratch(grid.p2, 2 * room + grid.p2, call.n_threads);
  parallel_for(call.rows * bands, call.n_threads, [&](int64_t task, int thread) {
    const int64_t row = task / bands;
    const Band band(grid, task % bands);
    const Real* z = call.z + row * grid.edges;
    const Real* centre = call.centre + row * grid.edges;
    const Box<Real> box = {call.radius[row], call.threshold[row]};
    Real* horizontal = scratch.numbers(thread);
    Real* vertical = horizontal + room;
    reflect(z, centre, box, band.first_horizontal, band.end_horizontal, horizontal);
    reflect(z, centre, box, band.first_vertical, band.end_vertical, vertical);
    write_adjoint(grid, band, horizontal, vertical, scratch.zeros(thread), Real(0),
                  call.out + row * grid.p1 * grid.p2);
  });
}

// Sums of squares in float64, one for each lane of vectors of each width.
template <class Real, int COUNT = LANES<Real>>
struct Squares : Squares<Real, COUNT / 2> {
  using Half = Squares<Real, COUNT / 2>;
  using Half::add;

  void add(const Vector<Real, COUNT>& x) {
    // Of the width of a register: vectors of two are taken apart number by number.
#pragma GCC unroll 2
    for (int part = 0; part < PARTS; ++part) {
      const auto narrow =
          load<Vector<Real, WIDTH>>(reinterpret_cast<const Real*>(&x) + part * WIDTH);
      const auto wide = __builtin_convertvector(narrow, Wide);
      lanes[part] += wide * wide;
    }
  }

  double total() const {
    double sum = Half::total();
    for (int lane = 0; lane < COUNT; ++lane) sum += lanes[lane / WIDTH][lane % WIDTH];
    return sum;
  }

 private:
  static constexpr int PARTS = COUNT > LANES<double> ? COUNT / LANES<double> : 1;
  static constexpr int WIDTH = COUNT / PARTS;
  using Wide = Vector<double, WIDTH>;
  Wide lanes[PARTS] = {};
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

  // Edges [begin, end); difference(edge, Value{}) is D potential.
  template <class Difference>
  void advance(int64_t begin, int64_t end, const Difference& difference,
               Squares<Real>& squares) const {
    over_lanes<Real>(begin, end, [&](int64_t edge, auto tag) {
      using Value = decltype(tag);
      const Value x = load<Value>(z + edge);
      const Value step = difference(edge, tag) - box.prox(x, load<Value>(centre + edge));
      const Value w = broadcast<Value>(weight);
      store(next + edge, w * (x + 2 * step) + (1 - w) * load<Value>(anchor + edge));
      squares.add(step);
    });
  }
};

// The edges that begin in a band; gives the sum of their squares. Differences along rows, which
// leave a gap after each, are put side by side in `horizontal` first.
template <class Real>
double update_band(const UpdateRow<Real>& row, const Grid& grid, const Band& band,
                   Real* horizontal) {
  Real* to = horizontal;
  for (int64_t i = band.begin; i < band.end; ++i, to += grid.p2 - 1) {
    const Real* g = row.potential + i * grid.p2;
    for (int64_t j = 0; j < grid.p2 - 1; ++j) to[j] = g[j + 1] - g[j];
  }
  Squares<Real> squares;
  row.advance(
      band.first_horizontal, band.end_horizontal,
      [&](int64_t edge, auto tag) {
        return load<decltype(tag)>(horizontal + (edge - band.first_horizontal));
      },
      squares);
  row.advance(
      grid.horizontal + band.begin * grid.p2, band.end_vertical,
      [&](int64_t edge, auto tag) {
        const Real* g = row.potential + (edge - grid.horizontal);
        return load<decltype(tag)>(g + grid.p2) - load<decltype(tag)>(g);
      },
      squares);
  return squares.total();
}

template <class Real>
void edge_update(const EdgeUpdateCall<Real>& call) {
  const Grid grid(call.p1, call.p2);
  const int64_t bands = grid.bands();
  const Scratch<Real> scratch(0, grid.rows_of_band() * grid.p2, call.n_threads);
  const Scratch<double> partial(0, call.rows * bands + 1, 1);
  double* sums = partial.numbers(0);
  parallel_for(call.rows * bands, call.n_threads, [&](int64_t task, int thread) {
    const int64_t row = task / bands, first = row * grid.edges;
    const UpdateRow<Real> update = {call.z + first,      call.anchor + first,
                                    call.centre + first, call.potential + row * grid.p1 * grid.p2,
                                    call.next + first,   {call.radius[row], call.threshold[row]},
                                    call.weight[row]};
    sums[task] = update_band(update, grid, Band(grid, task % bands), scratch.numbers(thread));
  });
  for (int64_t row = 0; row < call.rows; ++row) {
    call.residual[row] = 0;
    for (int64_t band = 0; band < bands; ++band) call.residual[row] += sums[row * bands + band];
  }
}

}  // namespace

extern const EdgesKernels edges_kernels;
const EdgesKernels edges_kernels = {edge_prox<float>,       edge_prox<double>,
                                    edge_divergence<float>, edge_divergence<double>,
                                    edge_update<float>,     edge_update<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
