// Philox for a group of counters at once. Each word sits in the low half of a 64-bit lane, where
// the instruction that multiplies 32 by 32 bits wants it: left to itself, the compiler multiplies
// 64 by 64 bits, three times slower. The high halves may hold anything.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "host_device.h"
#include "philox.h"

namespace hessx {
namespace HESSX_LEVEL {

#if defined(__AVX512F__)
constexpr int PHILOX_BYTES = 64;
#elif defined(__AVX2__)
constexpr int PHILOX_BYTES = 32;
#else
constexpr int PHILOX_BYTES = 16;
#endif
constexpr int PHILOX_LANES = PHILOX_BYTES / 8;

typedef uint64_t WideWords __attribute__((vector_size(PHILOX_BYTES), may_alias));
typedef uint32_t NarrowWords __attribute__((vector_size(PHILOX_BYTES / 2), may_alias));

// The 64-bit products of the low halves with a constant.
inline WideWords multiply_low(WideWords x, uint32_t factor) {
#if defined(__AVX512F__)
  // The plain form warns of an uninitialised operand in some versions of GCC.
  return (WideWords)_mm512_maskz_mul_epu32(0xff, (__m512i)x, _mm512_set1_epi64(factor));
#elif defined(__AVX2__)
  return (WideWords)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
#elif defined(__x86_64__)
  return (WideWords)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(factor));
#else
  return (x & 0xffffffffu) * factor;
#endif
}

struct WideCounter {
  WideWords x0, x1, x2, x3;
};

// The keys of all rounds: read from memory they cost no instruction of their own.
struct KeySchedule {
  explicit KeySchedule(uint64_t key) {
    uint32_t low = static_cast<uint32_t>(key);
    uint32_t high = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      k0[round] = low;
      k1[round] = high;
      low += PHILOX_KEY_STEP_0;
      high += PHILOX_KEY_STEP_1;
    }
  }
  uint64_t k0[10], k1[10];
};

inline WideCounter philox4x32_10(WideCounter c, const KeySchedule& keys) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const WideWords p0 = multiply_low(c.x0, PHILOX_FACTOR_0);
    const WideWords p1 = multiply_low(c.x2, PHILOX_FACTOR_1);
    c = {(p1 >> 32) ^ c.x1 ^ keys.k0[round], p1, (p0 >> 32) ^ c.x3 ^ keys.k1[round], p0};
  }
  return c;
}

inline WideWords load_words(const uint64_t* from) {
  return *reinterpret_cast<const WideWords*>(from);
}

inline void store_words(WideWords words, uint32_t* to) {
  *reinterpret_cast<NarrowWords*>(to) = __builtin_convertvector(words, NarrowWords);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
