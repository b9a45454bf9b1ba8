// Noise on the CPU: counters in groups that fill vector registers, groups shared out to threads.
#include "noise.h"

#include "counts.h"
#include "levels.h"
#include "noise_groups.h"
#include "parallel.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Groups in one task: a few microseconds of work, enough to pay for handing it to a thread.
constexpr int64_t GROUPS_PER_TASK = 64;

// Writes the numbers of the first `lanes` counters to their places, which may span rows.
template <class Real>
void scatter(const NoiseCall& call, int64_t blocks, Position at, int lanes, const Real* from,
             Real* out) {
  for (int lane = 0; lane < lanes; ++lane) {
    const int64_t left = call.m - 4 * at.block;
    const int count = left < 4 ? static_cast<int>(left) : 4;
    Real* to = out + at.row * call.row_stride + 4 * at.block * call.column_stride;
    for (int i = 0; i < count; ++i) to[i * call.column_stride] = from[4 * lane + i];
    if (++at.block == blocks) at = {at.row + 1, 0};
  }
}

template <class Law, class Real>
void fill(Real* out, const NoiseCall& call) {
  const int64_t blocks = (call.m + 3) / 4;
  const Counters counters = {call.first_sample, call.stream, call.first_block, blocks};
  const int64_t count = call.n * blocks;
  const KeySchedule keys(call.seed);
  const int64_t per_task = GROUP * GROUPS_PER_TASK;
  parallel_for(ceil_div(count, per_task), call.n_threads, [&](int64_t task, int) {
    const int64_t end = smaller(count, (task + 1) * per_task);
    WordsGroup words;
    for (int64_t t = task * per_task; t < end; t += GROUP) {
      const Position at = {t / blocks, t % blocks};
      words_of(counters, keys, at, words);
      const bool one_run = call.column_stride == 1 && 4 * (at.block + GROUP) <= call.m;
      if (one_run) {
        Law::draw(words, out + at.row * call.row_stride + 4 * at.block);
      } else {
        alignas(64) Real drawn[4 * GROUP];
        Law::draw(words, drawn);
        scatter(call, blocks, at, end - t < GROUP ? static_cast<int>(end - t) : GROUP, drawn, out);
      }
    }
  });
}

}  // namespace

extern const NoiseKernels noise_kernels;
const NoiseKernels noise_kernels = {fill<Uniform, float>, fill<Uniform, double>,
                                    fill<Normal, float>, fill<Normal, double>};

}  // namespace HESSX_LEVEL
}  // namespace hessx
