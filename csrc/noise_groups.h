// Numbers of a law drawn a group of counters at a time, in vector registers.
#pragma once

#include <cstdint>

#include "noise.h"
#include "philox_vector.h"

namespace hessx {
namespace HESSX_LEVEL {

// Counters drawn together: one AVX-512 register of words, or several narrower ones.
constexpr int GROUP = 16;

struct WordsGroup {
  alignas(64) uint32_t x0[GROUP], x1[GROUP], x2[GROUP], x3[GROUP];
};

// Counter t is block first_block + t % blocks, of four features, of sample first_sample +
// t / blocks.
struct Counters {
  uint64_t first_sample;
  uint32_t stream;
  int64_t first_block, blocks;
};

// The place of a counter: t / blocks and t % blocks.
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

// The words of the GROUP counters that begin with the one at `at`.
inline void words_of(const Counters& counters, const KeySchedule& keys, Position at,
                     WordsGroup& words) {
  alignas(64) uint64_t block[GROUP], low[GROUP], high[GROUP];
  if (at.block + GROUP <= counters.blocks) {
    const uint64_t sample = counters.first_sample + static_cast<uint64_t>(at.row);
    for (int lane = 0; lane < GROUP; ++lane) {
      block[lane] = static_cast<uint64_t>(counters.first_block + at.block + lane);
      low[lane] = sample;
      high[lane] = sample >> 32;
    }
  } else {
    for (int lane = 0; lane < GROUP; ++lane) {
      const uint64_t sample = counters.first_sample + static_cast<uint64_t>(at.row);
      block[lane] = static_cast<uint64_t>(counters.first_block + at.block);
      low[lane] = sample;
      high[lane] = sample >> 32;
      if (++at.block == counters.blocks) at = {at.row + 1, 0};
    }
  }
  for (int lane = 0; lane < GROUP; lane += PHILOX_LANES) {
    const WideCounter x = philox4x32_10({load_words(block + lane), WideWords{} + counters.stream,
                                         load_words(low + lane), load_words(high + lane)},
                                        keys);
    store_words(x.x0, words.x0 + lane);
    store_words(x.x1, words.x1 + lane);
    store_words(x.x2, words.x2 + lane);
    store_words(x.x3, words.x3 + lane);
  }
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
