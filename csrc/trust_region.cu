// The trust-region problem on a GPU: one warp a problem, lanes stride over its coordinates. The
// method is in trust_region.h.
#include "cuda_kernels.h"
#include "trust_region.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

template <class Number>
class Warp {
 public:
  using Real = Number;
  using Value = Number;

  __device__ Warp(const Real* eigenvalues, int64_t eigenvalues_stride, const Real* gradient,
                  int64_t gradient_stride, int64_t k, Real* step)
      : eigenvalues_(eigenvalues),
        gradient_(gradient),
        step_(step),
        eigenvalues_stride_(eigenvalues_stride),
        gradient_stride_(gradient_stride),
        k_(k),
        lane_(threadIdx.x % WARP) {}

  __device__ int64_t strips() const { return (k_ + WARP - 1) / WARP; }

  __device__ Real eigenvalue(int64_t strip) const {
    const int64_t i = strip * WARP + lane_;
    return eigenvalues_[i < k_ ? i * eigenvalues_stride_ : 0];
  }

  __device__ Real gradient(int64_t strip) const {
    const int64_t i = strip * WARP + lane_;
    return i < k_ ? gradient_[i * gradient_stride_] : 0;
  }

  // Both operands of an exchange are the same two numbers, so all lanes end with the same bits.
  __device__ Real sum(Real x) const {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(ALL_LANES, x, lanes);
    return x;
  }

  __device__ Real largest(Real x) const {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
      x = larger(x, __shfl_xor_sync(ALL_LANES, x, lanes));
    }
    return x;
  }

  __device__ Real smallest(Real x) const {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
      const Real other = __shfl_xor_sync(ALL_LANES, x, lanes);
      x = other < x ? other : x;
    }
    return x;
  }

  __device__ void store(int64_t strip, Real x) const {
    const int64_t i = strip * WARP + lane_;
    if (i < k_) step_[i] = x;
  }

  __device__ int64_t first_of(Real value) const {
    for (int64_t strip = 0; strip < strips(); ++strip) {
      const unsigned found = __ballot_sync(ALL_LANES, eigenvalue(strip) == value);
      if (found != 0) return strip * WARP + __ffs(found) - 1;
    }
    return 0;
  }

  __device__ Real gradient_at(int64_t i) const { return gradient_[i * gradient_stride_]; }

  // By the lane that wrote the coordinate before: no other one's write could come after.
  __device__ void store_at(int64_t i, Real x) const {
    if (i % WARP == lane_) step_[i] = x;
  }

 private:
  const Real *eigenvalues_, *gradient_;
  Real* step_;
  int64_t eigenvalues_stride_, gradient_stride_, k_;
  int lane_;
};

template <class Real>
__device__ void trust_region(const Real* eigenvalues, int64_t eigenvalues_batch_stride,
                             int64_t eigenvalues_stride, const Real* gradient,
                             int64_t gradient_batch_stride, int64_t gradient_stride,
                             const Real* radius, int64_t radius_stride, int64_t batch, int64_t k,
                             Real* step, Real* multiplier) {
  const int warps = blockDim.x / WARP;
  const int64_t problem = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / WARP;
  // Whole warps leave: the lanes of the others stay together.
  if (problem >= batch) return;
  const Warp<Real> lanes(eigenvalues + problem * eigenvalues_batch_stride, eigenvalues_stride,
                         gradient + problem * gradient_batch_stride, gradient_stride, k,
                         step + problem * k);
  const Real lambda = TrustRegion<Warp<Real>>::solve(lanes, radius[problem * radius_stride]);
  if (threadIdx.x % WARP == 0) multiplier[problem] = lambda;
}

}  // namespace
}  // namespace HESSX_LEVEL
}  // namespace hessx

#define HESSX_TRUST_REGION(Real)                                                                \
  extern "C" __global__ void __launch_bounds__(256) hessx_trust_region_##Real(                  \
      const Real* eigenvalues, int64_t eigenvalues_batch_stride, int64_t eigenvalues_stride,    \
      const Real* gradient, int64_t gradient_batch_stride, int64_t gradient_stride,             \
      const Real* radius, int64_t radius_stride, int64_t batch, int64_t k, Real* step,          \
      Real* multiplier) {                                                                       \
    hessx::HESSX_LEVEL::trust_region(eigenvalues, eigenvalues_batch_stride, eigenvalues_stride, \
                                     gradient, gradient_batch_stride, gradient_stride, radius,  \
                                     radius_stride, batch, k, step, multiplier);                \
  }

HESSX_TRUST_REGION(float)
HESSX_TRUST_REGION(double)
