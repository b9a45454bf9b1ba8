// Noise on grids on the CPU: the normal numbers of some pictures, or of a band of a large
// one, are drawn into a buffer that stays in cache, and differences of them written out.
#include "grid_noise.h"

#include <cstdlib>
#include <new>

#include "counts.h"
#include "levels.h"
#include "noise_groups.h"
#include "parallel.h"
#include "real.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Pixels of one task: their numbers take 32 kB in float32.
constexpr int64_t PIXELS_PER_TASK = 4096;
// The vertical edges above a band are drawn again: little beside this many rows.
constexpr int64_t MIN_ROWS_OF_BAND = 8;

constexpr int FEATURES = 4;  // of a counter

struct Grid {
  explicit Grid(const GridNormalCall& call)
      : p1(call.p1), p2(call.p2), horizontal(p1 * (p2 - 1)), edges(horizontal + (p1 - 1) * p2) {}

  int64_t p1, p2, horizontal, edges;
};

// Where the numbers of a picture lie: horizontal edges from row `first_row` on, vertical ones from
// `first_vertical` on.
template <class Real>
struct Numbers {
  const Real *horizontal, *vertical;
  int64_t first_row, first_vertical;
  Real constant;
};

class Drawer {
 public:
  explicit Drawer(const GridNormalCall& call)
      : keys_(call.seed), first_sample_(call.first_sample), stream_(call.stream) {}

  // Room for `count` features from any one on, whole groups of counters at a time.
  static int64_t room(int64_t count) { return count + 2 * FEATURES + GROUP * FEATURES; }

  // Draws features [begin, end) of one sample; gives the place of the first.
  template <class Real>
  Real* run(int64_t sample, int64_t begin, int64_t end, Real* to) const {
    const int64_t first_block = begin / FEATURES;
    samples(sample, 1, first_block, ceil_div(end, FEATURES) - first_block, to);
    return to + begin % FEATURES;
  }

  // Draws `blocks` blocks of each of `count` samples.
  template <class Real>
  void samples(int64_t first, int64_t count, int64_t first_block, int64_t blocks, Real* to) const {
    const Counters counters = {first_sample_ + static_cast<uint64_t>(first), stream_, first_block,
                               blocks};
    WordsGroup words;
    for (int64_t t = 0; t < count * blocks; t += GROUP) {
      words_of(counters, keys_, {t / blocks, t % blocks}, words);
      Normal::draw(words, to + FEATURES * t);
    }
  }

 private:
  KeySchedule keys_;
  uint64_t first_sample_;
  uint32_t stream_;
};

// One row: `right` are its horizontal edges, `above` and `below` the vertical ones that end and
// begin in it.
template <class Real>
void write_row(const Real* right, const Real* above, const Real* below, Real constant, int64_t p2,
               Real* out) {
  for (int64_t j = 1; j < p2 - 1; ++j) {
    out[j] = (right[j - 1] - right[j]) + (above[j] - below[j]) + constant;
  }
  const int64_t last = p2 - 1;
  const Real leaving = last > 0 ? right[0] : 0;
  const Real arriving = last > 0 ? right[last - 1] : 0;
  out[0] = -leaving + (above[0] - below[0]) + constant;
  if (last > 0) out[last] = arriving + (above[last] - below[last]) + constant;
}

// Rows [begin, end) of a picture; `zeros` stand for the edges beyond its borders.
template <class Real>
void write_rows(const Grid& grid, const Numbers<Real>& numbers, int64_t begin, int64_t end,
                const Real* zeros, Real* picture) {
  for (int64_t i = begin; i < end; ++i) {
    const Real* right = numbers.horizontal + (i - numbers.first_row) * (grid.p2 - 1);
    const Real* below = numbers.vertical + (i - numbers.first_vertical) * grid.p2;
    const Real* above = i > 0 ? below - grid.p2 : zeros;
    write_row(right, above, i + 1 < grid.p1 ? below : zeros, numbers.constant, grid.p2,
              picture + i * grid.p2);
  }
}

template <class Real>
Real scale_of_constant(const Grid& grid) {
  return static_cast<Real>(1 / square_root(static_cast<double>(grid.p1 * grid.p2)));
}

// Memory of the threads, each with a row of zeros and room for `numbers` numbers.
template <class Real>
class Scratch {
 public:
  Scratch(int64_t p2, int64_t numbers, int n_threads)
      : p2_(p2),
        size_(p2 + numbers),
        memory_(static_cast<Real*>(std::malloc(size_ * n_threads * sizeof(Real)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
    for (int thread = 0; thread < n_threads; ++thread) {
      for (int64_t j = 0; j < p2; ++j) memory_[thread * size_ + j] = 0;
    }
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  const Real* zeros(int thread) const { return memory_ + thread * size_; }
  Real* numbers(int thread) const { return memory_ + thread * size_ + p2_; }

 private:
  int64_t p2_, size_;
  Real* memory_;
};

// Whole pictures, as many as fill a task.
template <class Real>
void draw_pictures(Real* out, const GridNormalCall& call, const Grid& grid) {
  const Drawer drawer(call);
  const int64_t pixels = grid.p1 * grid.p2;
  const int64_t blocks = ceil_div(grid.edges + 1, FEATURES);
  const int64_t per_task = ceil_div(PIXELS_PER_TASK, pixels);
  const Scratch<Real> scratch(grid.p2, drawer.room(per_task * blocks * FEATURES), call.n_threads);
  const Real scale = scale_of_constant<Real>(grid);
  parallel_for(ceil_div(call.n, per_task), call.n_threads, [&](int64_t task, int thread) {
    const int64_t first = task * per_task;
    const int64_t count = smaller(per_task, call.n - first);
    Real* drawn = scratch.numbers(thread);
    drawer.samples(first, count, 0, blocks, drawn);
    for (int64_t s = 0; s < count; ++s, drawn += blocks * FEATURES) {
      const Numbers<Real> numbers = {drawn, drawn + grid.horizontal, 0, 0,
                                     drawn[grid.edges] * scale};
      write_rows(grid, numbers, 0, grid.p1, scratch.zeros(thread), out + (first + s) * pixels);
    }
  });
}

// Pictures in bands of rows.
template <class Real>
void draw_bands(Real* out, const GridNormalCall& call, const Grid& grid) {
  const Drawer drawer(call);
  const int64_t pixels = grid.p1 * grid.p2;
  const int64_t fitting = PIXELS_PER_TASK / grid.p2;
  const int64_t rows = fitting > MIN_ROWS_OF_BAND ? fitting : MIN_ROWS_OF_BAND;
  const int64_t bands = ceil_div(grid.p1, rows);
  const int64_t height = smaller(rows, grid.p1);
  const int64_t room = drawer.room(height * (grid.p2 - 1));
  const Scratch<Real> scratch(grid.p2, room + drawer.room((height + 1) * grid.p2), call.n_threads);
  const Real scale = scale_of_constant<Real>(grid);
  parallel_for(call.n * bands, call.n_threads, [&](int64_t task, int thread) {
    const int64_t sample = task / bands;
    const int64_t begin = task % bands * rows;
    const int64_t end = smaller(begin + rows, grid.p1);
    const int64_t above = begin > 0 ? begin - 1 : 0;
    const int64_t last_vertical = smaller(end, grid.p1 - 1);
    Real* drawn = scratch.numbers(thread);
    const Real constant = *drawer.run(sample, grid.edges, grid.edges + 1, drawn) * scale;
    const Real* horizontal = drawer.run(sample, begin * (grid.p2 - 1), end * (grid.p2 - 1), drawn);
    const Real* vertical = drawer.run(sample, grid.horizontal + above * grid.p2,
                                      grid.horizontal + last_vertical * grid.p2, drawn + room);
    write_rows(grid, {horizontal, vertical, begin, above, constant}, begin, end,
               scratch.zeros(thread), out + sample * pixels);
  });
}

template <class Real>
void grid_normal(Real* out, const GridNormalCall& call) {
  const Grid grid(call);
  if (grid.p1 * grid.p2 <= PIXELS_PER_TASK) {
    draw_pictures(out, call, grid);
  } else {
    draw_bands(out, call, grid);
  }
}

}  // namespace

extern const GridNoiseKernels grid_noise_kernels;
const GridNoiseKernels grid_noise_kernels = {grid_normal<float>, grid_normal<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
