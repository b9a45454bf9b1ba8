// Pictures of least total variation on the CPU: one picture with all its radii a task.
#include "tv_flow.h"

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "arena.h"
#include "face_flow.h"
#include "face_potential.h"
#include "fixed_point.h"
#include "levels.h"
#include "parallel.h"
#include "pixel_flow.h"
#include "tie_breaker.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Stands in the pivots of a picture whose solution failed: no exception leaves a thread.
constexpr int64_t IMPOSSIBLE = -1;

// A walk to a radius shorter by a share s pays while s^3 pixels is below this: s = .35 at 28 x 28
// pixels and .09 at 224 x 224, where pivots on the pixels cost several times more (bench.tv_flow).
constexpr double LONGEST_WALK = 32;

// What all pictures of a call share.
struct Grid {
  Grid(const GridSize& grid_size, Arena& arena)
      : size(grid_size),
        face_ends(arena.take<Ends>(size.edges())),
        pixel_ends(arena.take<Ends>(size.edges())),
        weight(arena.take<int64_t>(size.edges())),
        tie_breaker(size.faces() + 1) {}

  void fill() {
    tabulate_ends(FaceGraph(size), face_ends);
    tabulate_ends(PixelGraph(size), pixel_ends);
    for (int64_t e = 0; e < size.edges(); ++e) weight[e] = tie_breaker.weight(e);
  }

  GridSize size;
  Ends *face_ends, *pixel_ends;
  int64_t* weight;
  TieBreaker tie_breaker;
};

// Solves one picture after the other in the buffers of one thread.
class Solver {
 public:
  Solver(const Grid& grid, Arena& arena)
      : grid_(grid),
        fixed_point_(grid.size),
        picture_(arena.take<int64_t>(grid.size.pixels())),
        centre_(arena.take<int64_t>(grid.size.edges())),
        circulation_(arena.take<int64_t>(grid.size.edges())),
        faces_(grid.size, grid.face_ends, grid.weight, arena),
        pixels_(grid.size, grid.pixel_ends, grid.weight, arena),
        potential_(grid.size, grid.face_ends, arena) {}

  void solve(const TVFlowCall& call, int64_t item) {
    const GridSize& size = grid_.size;
    const double* estimate = call.estimate + item * size.pixels();
    const bool flat = !fixed_point_.choose(estimate);
    last_ = NONE;
    for (int64_t k = 0; k < call.values; ++k) {
      const int64_t row = item * call.values + k;
      double* solution = call.solution + row * size.pixels();
      int32_t* potential = call.potential + row * size.faces();
      call.pivots[row] = 0;
      for (int64_t f = 0; f < size.faces(); ++f) potential[f] = 0;
      if (flat || fixed_point_.reaches_all(call.radius[row])) {
        for (int64_t i = 0; i < size.pixels(); ++i) solution[i] = 0;
        continue;
      }
      const int64_t radius = fixed_point_.radius(call.radius[row]);
      if (radius < 1) {
        fixed_point_.store_estimate(estimate, solution);
        continue;
      }
      if (last_ == NONE) fixed_point_.differences(estimate, picture_, centre_);
      call.pivots[row] = last_ == NONE || !walk_pays(radius)
                             ? by_faces(radius, solution, potential)
                             : by_pixels(radius, solution, potential);
      if (call.pivots[row] == IMPOSSIBLE) return;
      last_radius_ = radius;
    }
  }

 private:
  enum Last { NONE, FACES, PIXELS };

  // Whether the way from the last radius is shorter than that from scratch.
  bool walk_pays(int64_t radius) const {
    const double step = static_cast<double>(last_radius_ - radius) / static_cast<double>(radius);
    return step * step * step * static_cast<double>(grid_.size.pixels()) < LONGEST_WALK;
  }

  // From scratch; the pivots it took.
  int64_t by_faces(int64_t radius, double* solution, int32_t* potential) {
    const GridSize& size = grid_.size;
    last_ = FACES;
    if (!faces_.solve(centre_, radius)) return IMPOSSIBLE;
    integrate(faces_.flow());
    fixed_point_.store(picture_, solution);
    potential_.clear();
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2 - 1; ++j) {
        potential_.set(i, j, grid_.tie_breaker.rounded(faces_.potential(i, j)));
      }
    }
    const bool certified = potential_.find(picture_, centre_, radius, potential);
    return certified ? faces_.pivots() : IMPOSSIBLE;
  }

  // From the solution for the last radius; the pivots it took.
  int64_t by_pixels(int64_t radius, double* solution, int32_t* potential) {
    const GridSize& size = grid_.size;
    if (last_ == FACES) {
      faces_.write_dual(pixels_.flow());
      pixels_.start();
    }
    last_ = PIXELS;
    if (!pixels_.solve(centre_, radius)) return IMPOSSIBLE;
    fixed_point_.store(pixels_.picture(), solution);
    pixels_.read(centre_, radius, circulation_);
    potential_.clear();
    // The horizontal edges lead from the outer face down the columns of faces.
    for (int64_t j = 0; j < size.p2 - 1; ++j) {
      int64_t psi = 0;
      for (int64_t i = 0; i < size.p1 - 1; ++i) {
        psi += circulation_[size.h(i, j)];
        potential_.set(i, j, grid_.tie_breaker.rounded(psi));
      }
    }
    const bool certified = potential_.find(pixels_.picture(), centre_, radius, potential);
    return certified ? pixels_.pivots() : IMPOSSIBLE;
  }

  // The picture whose differences are a flow without sources.
  void integrate(const int64_t* flow) {
    const GridSize& size = grid_.size;
    picture_[0] = 0;
    for (int64_t j = 0; j < size.p2 - 1; ++j) picture_[j + 1] = picture_[j] + flow[size.h(0, j)];
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2; ++j) {
        const int64_t pixel = i * size.p2 + j;
        picture_[pixel + size.p2] = picture_[pixel] + flow[size.v(i, j)];
      }
    }
  }

  const Grid& grid_;
  FixedPoint fixed_point_;
  int64_t *picture_, *centre_, *circulation_;
  FaceFlow faces_;
  PixelFlow pixels_;
  FacePotential potential_;
  Last last_ = NONE;
  int64_t last_radius_ = 0;
};

void tv_flow(const TVFlowCall& call) {
  const GridSize size{call.p1, call.p2};
  Arena shared_count, own_count;
  const Grid no_grid(size, shared_count);
  Solver(no_grid, own_count);
  const int64_t threads = smaller(call.n_threads, call.batch);
  const int64_t bytes = shared_count.bytes() + threads * own_count.bytes();
  char* memory = static_cast<char*>(std::aligned_alloc(Arena::CACHE_LINE, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  Arena shared(memory);
  Grid grid(size, shared);
  grid.fill();
  parallel_for(call.batch, call.n_threads, [&](int64_t item, int thread) {
    Arena own(memory + shared_count.bytes() + thread * own_count.bytes());
    Solver(grid, own).solve(call, item);
  });
  std::free(memory);
  for (int64_t row = 0; row < call.batch * call.values; ++row) {
    if (call.pivots[row] == IMPOSSIBLE) {
      throw std::runtime_error("tv_flow: the network simplex met an impossible state");
    }
  }
}

}  // namespace

extern const TVFlowKernels tv_flow_kernels;
const TVFlowKernels tv_flow_kernels = {tv_flow};

}  // namespace HESSX_LEVEL
}  // namespace hessx
