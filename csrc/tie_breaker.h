// Costs of the edges that make the optimal flow unique, unless hashes tie.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// An edge costs 2^scale plus a hash of the edge's number, so small that it only chooses among
// the optimal flows of unit cost, and so large that it most likely chooses one. With unit costs the
// price of a cycle is an integer; the hashes of a cycle's edges, fewer than there are nodes, add up
// to less than a quarter of 2^scale. Potentials of all nodes, the artificial ones included, fit an
// int64_t.
class TieBreaker {
 public:
  explicit TieBreaker(int64_t nodes) {
    int bits = 0;
    while ((int64_t{1} << bits) < nodes) ++bits;
    scale_ = 57 - bits;
    hash_bits_ = scale_ - bits - 2;
  }

  int64_t weight(int64_t e) const {
    // The finaliser of SplitMix64.
    uint64_t x = (static_cast<uint64_t>(e) + 1) * 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return unit() + static_cast<int64_t>((x ^ (x >> 31)) >> (64 - hash_bits_));
  }

  int64_t unit() const { return int64_t{1} << scale_; }

  // The potential for unit costs that belongs to one for the costs above.
  int32_t rounded(int64_t potential) const {
    return static_cast<int32_t>((potential + unit() / 2) >> scale_);
  }

 private:
  int scale_, hash_bits_;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
