// The softmax product on the CPU: one row of classes at a time, rows shared out to threads.
#include "softmax.h"

#include "counts.h"
#include "levels.h"
#include "parallel.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Partial sums of a dot product: two AVX-512 registers of float64, or several narrower ones.
constexpr int LANES = 16;
// Numbers of one task: a few microseconds of work, enough to pay for handing it to a thread.
constexpr int64_t NUMBERS_PER_TASK = 8192;

template <class Real>
int64_t likeliest(const Real* p, int64_t classes) {
  int64_t at = 0;
  for (int64_t i = 1; i < classes; ++i) {
    if (p[i] > p[at]) at = i;
  }
  return at;
}

// sum_i p_i (u_i - origin), lane by lane and the lanes in order.
template <class Real>
double dot(const Real* p, const Real* u, double origin, int64_t classes) {
  double lane[LANES] = {};
  const int64_t whole = classes - classes % LANES;
  for (int64_t i = 0; i < whole; i += LANES) {
    for (int j = 0; j < LANES; ++j) lane[j] += p[i + j] * (u[i + j] - origin);
  }
  for (int64_t i = whole; i < classes; ++i) lane[i - whole] += p[i] * (u[i] - origin);
  double sum = 0;
  for (int j = 0; j < LANES; ++j) sum += lane[j];
  return sum;
}

template <class Real>
void softmax_product(const SoftmaxCall<Real>& call) {
  const int64_t classes = call.classes;
  if (classes == 0) return;
  const int64_t rows = call.batch * call.m;
  const int64_t per_task = NUMBERS_PER_TASK / smaller(classes, NUMBERS_PER_TASK);
  parallel_for((rows + per_task - 1) / per_task, call.n_threads, [&](int64_t task, int) {
    const int64_t end = smaller(rows, (task + 1) * per_task);
    int64_t entry = -1, origin_class = 0;
    for (int64_t row = task * per_task; row < end; ++row) {
      const Real* p = call.probabilities + row / call.m * classes;
      const Real* u = call.vectors + row * classes;
      Real* out = call.out + row * classes;
      if (row / call.m != entry) {
        entry = row / call.m;
        origin_class = likeliest(p, classes);
      }
      const double origin = u[origin_class];
      const double mean = dot(p, u, origin, classes);
      for (int64_t i = 0; i < classes; ++i) {
        out[i] = static_cast<Real>(p[i] * ((u[i] - origin) - mean));
      }
    }
  });
}

}  // namespace

extern const SoftmaxKernels softmax_kernels;
const SoftmaxKernels softmax_kernels = {softmax_product<float>, softmax_product<double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
