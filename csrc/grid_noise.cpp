// Noise on grids on the CPU: the normal numbers of some pictures, or of a band of a large
// one, are drawn into a buffer that stays in cache, and their sums written out.
#include "grid_noise.h"

#include "counts.h"
#include "edge_rows.h"
#include "levels.h"
#include "noise_groups.h"
#include "parallel.h"
#include "real.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

constexpr int FEATURES = 4;  // of a counter

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

template <class Real>
Real scale_of_constant(const Grid& grid) {
  return static_cast<Real>(1 / square_root(static_cast<double>(grid.p1 * grid.p2)));
}

// Whole pictures, as many as fill a band.
template <class Real>
void draw_pictures(Real* out, const GridNormalCall& call, const Grid& grid) {
  const Drawer drawer(call);
  const int64_t pixels = grid.p1 * grid.p2;
  const int64_t blocks = ceil_div(grid.edges + 1, FEATURES);
  const int64_t per_task = ceil_div(PIXELS_OF_BAND, pixels);
  const Scratch<Real> scratch(grid.p2, drawer.room(per_task * blocks * FEATURES), call.n_threads);
  const Real scale = scale_of_constant<Real>(grid);
  parallel_for(ceil_div(call.n, per_task), call.n_threads, [&](int64_t task, int thread) {
    const int64_t first = task * per_task;
    const int64_t count = smaller(per_task, call.n - first);
    Real* drawn = scratch.numbers(thread);
    drawer.samples(first, count, 0, blocks, drawn);
    for (int64_t s = 0; s < count; ++s, drawn += blocks * FEATURES) {
      write_adjoint(grid, Band(grid, 0), drawn, drawn + grid.horizontal, scratch.zeros(thread),
                    drawn[grid.edges] * scale, out + (first + s) * pixels);
    }
  });
}

// Pictures of several bands.
template <class Real>
void draw_bands(Real* out, const GridNormalCall& call, const Grid& grid) {
  const Drawer drawer(call);
  const int64_t bands = grid.bands(), rows = grid.rows_of_band();
  const int64_t room = drawer.room(rows * (grid.p2 - 1));
  const Scratch<Real> scratch(grid.p2, room + drawer.room((rows + 1) * grid.p2), call.n_threads);
  const Real scale = scale_of_constant<Real>(grid);
  parallel_for(call.n * bands, call.n_threads, [&](int64_t task, int thread) {
    const int64_t sample = task / bands;
    const Band band(grid, task % bands);
    Real* drawn = scratch.numbers(thread);
    const Real constant = *drawer.run(sample, grid.edges, grid.edges + 1, drawn) * scale;
    const Real* horizontal = drawer.run(sample, band.first_horizontal, band.end_horizontal, drawn);
    const Real* vertical = drawer.run(sample, band.first_vertical, band.end_vertical, drawn + room);
    write_adjoint(grid, band, horizontal, vertical, scratch.zeros(thread), constant,
                  out + sample * grid.p1 * grid.p2);
  });
}

template <class Real>
void grid_normal(Real* out, const GridNormalCall& call) {
  const Grid grid(call.p1, call.p2);
  if (grid.bands() == 1) {
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
