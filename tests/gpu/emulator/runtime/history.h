// Who used a piece of memory, as far as later accesses can race with it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "block.h"

namespace emulator {

enum class AccessKind { read, write, atomic };

// An access, with all that decides what is ordered after it.
struct Stamp {
  uint32_t epoch = 0;
  int32_t thread = 0;
  uint32_t clock = 0;
  uint32_t code = 0;
};

// The running thread: its stamp, and what it knows of others.
struct Observer {
  Stamp stamp;
  uint32_t first_epoch;
  const std::array<uint32_t, LANES>* known;

  // Blocks are ordered by nothing within a launch; threads of a block by barriers; lanes of a warp
  // by __syncwarp too.
  bool is_after(const Stamp& other) const {
    if (other.epoch < first_epoch) return false;
    if (other.epoch < stamp.epoch || other.thread == stamp.thread) return true;
    return other.thread / LANES == stamp.thread / LANES &&
           (*known)[other.thread % LANES] >= other.clock;
  }
};

using LaneClocks = std::vector<std::array<uint32_t, LANES>>;

// Accesses that do not race with each other: reads, or atomic ones.
class Users {
 public:
  // An access of the set that the observer is not after; of epoch 0 if there is none.
  Stamp unordered(const Observer& me, const LaneClocks& clocks) const;
  void add(const Observer& me, LaneClocks& clocks);
  void clear() { latest_.epoch = earlier_.epoch = 0; }
  // As the set of another piece of memory, with lane clocks of its own.
  Users copy(LaneClocks& clocks) const;

 private:
  enum class Extent : uint8_t { thread, warp, block };

  // Of the latest epoch (earlier ones of that block are before all that follows): one access, and
  // one of another warp. And one of an earlier block.
  Stamp latest_, elsewhere_, earlier_;
  // Clocks of each lane, where several lanes of one warp have been here.
  int32_t clocks_ = -1;
  Extent extent_ = Extent::thread;
};

struct Cell {
  Stamp write;
  Users reads, atomics;
  bool allowed = true;
  bool written = true;

  // An earlier access that races with this one; of epoch 0 if there is none. Then this one is
  // remembered.
  Stamp use(AccessKind kind, const Observer& me, LaneClocks& clocks);
};

}  // namespace emulator
