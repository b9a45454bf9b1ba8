// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011): four random 32-bit words from a counter of
// four words and a key of two. A pure function: noise depends on (seed, stream, sample, feature)
// alone.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

constexpr uint32_t PHILOX_FACTOR_0 = 0xD2511F53u;
constexpr uint32_t PHILOX_FACTOR_1 = 0xCD9E8D57u;
constexpr uint32_t PHILOX_KEY_STEP_0 = 0x9E3779B9u;
constexpr uint32_t PHILOX_KEY_STEP_1 = 0xBB67AE85u;

struct Words {
  uint32_t x0, x1, x2, x3;
};

HESSX_HD Words philox4x32_10(Words c, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(c.x0) * PHILOX_FACTOR_0;
    const uint64_t p1 = static_cast<uint64_t>(c.x2) * PHILOX_FACTOR_1;
    c = {static_cast<uint32_t>(p1 >> 32) ^ c.x1 ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c.x3 ^ k1, static_cast<uint32_t>(p0)};
    k0 += PHILOX_KEY_STEP_0;
    k1 += PHILOX_KEY_STEP_1;
  }
  return c;
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
