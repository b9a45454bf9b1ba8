// The trust-region problem on the CPU: one problem at a time in vector registers, problems shared
// out to threads.
#include "trust_region.h"

#include <cstdlib>
#include <new>

#include "counts.h"
#include "levels.h"
#include "parallel.h"
#include "tile.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Problems in one task: several microseconds of work, enough to pay for handing it to a thread.
constexpr int64_t PROBLEMS_PER_TASK = 16;

// A problem copied to whole vectors.
template <class Number>
class Vectors {
 public:
  using Real = Number;
  typedef Real Value __attribute__((vector_size(VECTOR_BYTES), may_alias));

  Vectors(Value* storage, int64_t k)
      : eigenvalues_(storage), gradient_(storage + strips_of(k)), k_(k) {}

  static int64_t strips_of(int64_t k) { return ceil_div(k, LANES<Real>); }

  void load(const TrustRegionCall<Real>& call, int64_t problem) {
    const Real* e = call.eigenvalues + problem * call.eigenvalues_batch_stride;
    const Real* g = call.gradient + problem * call.gradient_batch_stride;
    Real* eigenvalues = reinterpret_cast<Real*>(eigenvalues_);
    Real* gradient = reinterpret_cast<Real*>(gradient_);
    for (int64_t i = 0; i < k_; ++i) {
      eigenvalues[i] = e[i * call.eigenvalues_stride];
      gradient[i] = g[i * call.gradient_stride];
    }
    for (int64_t i = k_; i < strips() * LANES<Real>; ++i) {
      eigenvalues[i] = e[0];
      gradient[i] = 0;
    }
    step_ = call.step + problem * k_;
  }

  int64_t strips() const { return strips_of(k_); }
  Value eigenvalue(int64_t strip) const { return eigenvalues_[strip]; }
  Value gradient(int64_t strip) const { return gradient_[strip]; }

  Real sum(const Value& x) const {
    return reduce(x, [](Real a, Real b) { return a + b; });
  }
  Real largest(const Value& x) const {
    return reduce(x, [](Real a, Real b) { return larger(a, b); });
  }
  Real smallest(const Value& x) const {
    return reduce(x, [](Real a, Real b) { return b < a ? b : a; });
  }

  void store(int64_t strip, const Value& x) const {
    const int64_t first = strip * LANES<Real>;
    const int64_t count = smaller(LANES<Real>, k_ - first);
    for (int64_t lane = 0; lane < count; ++lane) step_[first + lane] = x[lane];
  }

  int64_t first_of(Real value) const {
    const Real* eigenvalues = reinterpret_cast<const Real*>(eigenvalues_);
    int64_t i = 0;
    while (eigenvalues[i] != value) ++i;
    return i;
  }

  Real gradient_at(int64_t i) const { return reinterpret_cast<const Real*>(gradient_)[i]; }
  void store_at(int64_t i, Real x) const { step_[i] = x; }

 private:
  template <class Operation>
  static Real reduce(const Value& x, const Operation& operation) {
    Real lane[LANES<Real>];
    for (int i = 0; i < LANES<Real>; ++i) lane[i] = x[i];
    for (int half = LANES<Real> / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] = operation(lane[i], lane[i + half]);
    }
    return lane[0];
  }

  Value *eigenvalues_, *gradient_;
  Real* step_ = nullptr;
  int64_t k_;
};

template <class Real>
void trust_region(const TrustRegionCall<Real>& call) {
  const int64_t bytes = 2 * Vectors<Real>::strips_of(call.k) * VECTOR_BYTES;
  char* storage = static_cast<char*>(std::aligned_alloc(VECTOR_BYTES, bytes * call.n_threads));
  if (storage == nullptr) throw std::bad_alloc();
  const int64_t tasks = ceil_div(call.batch, PROBLEMS_PER_TASK);
  parallel_for(tasks, call.n_threads, [&](int64_t task, int thread) {
    using Value = typename Vectors<Real>::Value;
    Vectors<Real> lanes(reinterpret_cast<Value*>(storage + thread * bytes), call.k);
    const int64_t first = task * PROBLEMS_PER_TASK;
    const int64_t end = smaller(first + PROBLEMS_PER_TASK, call.batch);
    for (int64_t problem = first; problem < end; ++problem) {
      lanes.load(call, problem);
      call.multiplier[problem] =
          TrustRegion<Vectors<Real>>::solve(lanes, call.radius[problem * call.radius_stride]);
    }
  });
  std::free(storage);
}

}  // namespace

extern const TrustRegionKernels trust_region_kernels;
const TrustRegionKernels trust_region_kernels = {trust_region<float>, trust_region<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
