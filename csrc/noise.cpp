// Noise on the CPU: counters in groups that fill vector registers, groups shared out to threads.
#include "noise.h"

#include "levels.h"
#include "parallel.h"
#include "philox_vector.h"

namespace hessx {
namespace HESSX_LEVEL {
namespace {

// Counters drawn together: one AVX-512 register of words, or several narrower ones.
constexpr int GROUP = 16;
// Groups in one task: a few microseconds of work, enough to pay for handing it to a thread.
constexpr int64_t GROUPS_PER_TASK = 64;

struct WordsGroup {
  alignas(64) uint32_t x0[GROUP], x1[GROUP], x2[GROUP], x3[GROUP];
};

// Counter t of a call is block t % blocks of four features of row t / blocks.
struct Position {
  int64_t row, block;
};

struct Uniform {
  template <class Real>
  static void draw(const WordsGroup& words, Real* out) {
#pragma GCC ivdep
    for (int lane = 0; lane < GROUP; ++lane) {
      uniform_of(words.x0[lane], out[4 * lane]);
      uniform_of(words.x1[lane], out[4 * lane + 1]);
      uniform_of(words.x2[lane], out[4 * lane + 2]);
      uniform_of(words.x3[lane], out[4 * lane + 3]);
    }
  }
};

struct Normal {
  template <class Real>
  static void draw(const WordsGroup& words, Real* out) {
#pragma GCC ivdep
    for (int lane = 0; lane < GROUP; ++lane) {
      normal_pair(words.x0[lane], words.x1[lane], out[4 * lane], out[4 * lane + 1]);
      normal_pair(words.x2[lane], words.x3[lane], out[4 * lane + 2], out[4 * lane + 3]);
    }
  }
};

void words_of(const NoiseCall& call, const KeySchedule& keys, int64_t blocks, Position at,
              WordsGroup& words) {
  alignas(64) uint64_t block[GROUP], low[GROUP], high[GROUP];
  if (at.block + GROUP <= blocks) {
    const uint64_t sample = call.first_sample + static_cast<uint64_t>(at.row);
    for (int lane = 0; lane < GROUP; ++lane) {
      block[lane] = static_cast<uint64_t>(call.first_block + at.block + lane);
      low[lane] = sample;
      high[lane] = sample >> 32;
    }
  } else {
    for (int lane = 0; lane < GROUP; ++lane) {
      const uint64_t sample = call.first_sample + static_cast<uint64_t>(at.row);
      block[lane] = static_cast<uint64_t>(call.first_block + at.block);
      low[lane] = sample;
      high[lane] = sample >> 32;
      if (++at.block == blocks) at = {at.row + 1, 0};
    }
  }
  for (int lane = 0; lane < GROUP; lane += PHILOX_LANES) {
    const WideCounter x = philox4x32_10({load_words(block + lane), WideWords{} + call.stream,
                                         load_words(low + lane), load_words(high + lane)},
                                        keys);
    store_words(x.x0, words.x0 + lane);
    store_words(x.x1, words.x1 + lane);
    store_words(x.x2, words.x2 + lane);
    store_words(x.x3, words.x3 + lane);
  }
}

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
  const int64_t counters = call.n * blocks;
  const KeySchedule keys(call.seed);
  const int64_t per_task = GROUP * GROUPS_PER_TASK;
  parallel_for((counters + per_task - 1) / per_task, call.n_threads, [&](int64_t task, int) {
    const int64_t end = counters < (task + 1) * per_task ? counters : (task + 1) * per_task;
    WordsGroup words;
    for (int64_t t = task * per_task; t < end; t += GROUP) {
      const Position at = {t / blocks, t % blocks};
      words_of(call, keys, blocks, at, words);
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
