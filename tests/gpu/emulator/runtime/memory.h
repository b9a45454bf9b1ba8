// The memory that a launch may use, and every access to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "history.h"

namespace emulator {

struct Access {
  AccessKind kind;
  uintptr_t address;
  size_t bytes;
  uintptr_t code;
};

// A stretch of memory in cells of 4 bytes, or fewer where a narrower access was seen.
class Region {
 public:
  Region(std::string name, uintptr_t base, size_t bytes, size_t granule);

  bool holds(uintptr_t address) const { return address - base_ < bytes_; }
  uintptr_t base() const { return base_; }
  size_t bytes() const { return bytes_; }
  const std::string& name() const { return name_; }

  // One byte a granule: whether it belongs to an element; whether something was written there.
  void set_allowed(const uint8_t* allowed);
  void set_written(const uint8_t* written);
  void get_written(uint8_t* written) const;
  // As at the start of a block.
  void forget(size_t bytes);

  // The cells of an access, split first where it covers a part of one.
  std::pair<Cell*, Cell*> cells(uintptr_t address, size_t bytes, LaneClocks& clocks);

 private:
  void split(size_t granule, LaneClocks& clocks);

  std::string name_;
  uintptr_t base_;
  size_t bytes_, granule_, first_granule_;
  std::vector<Cell> cells_;
};

class Memory {
 public:
  // Kernels can have this much shared memory on the GPUs that are compiled for (sm_90).
  static constexpr size_t MAX_SHARED_BYTES = 227 * 1024;

  Region& add_buffer(uintptr_t base, size_t bytes, size_t granule);
  Region* find_buffer(uintptr_t address);
  void clear_buffers() { buffers_.clear(); }

  void begin_launch(size_t shared_bytes);
  void begin_block(uint3 index, const StackPool& stacks);
  void end_launch();

  uint32_t next_epoch() { return ++epoch_; }

  // Called before the access is made. `aligned`: the address must be a multiple of the size.
  void check(const Access& access, bool aligned);
  // Counts what a thread does, so that an endless loop ends.
  void step(uintptr_t code);
  // Stops a thread whose calls have used up its stack.
  void check_stack(uintptr_t frame, uintptr_t code);

  uint64_t max_steps = 1'000'000'000;

 private:
  void check(Cell& cell, const Region& region, const Access& access, const Observer& observer);
  [[noreturn]] void stray(const Access& access);
  Region* find(uintptr_t address);
  uint3 block_of(const Stamp&) const;

  std::vector<Region> buffers_, shared_;
  Region* last_found_ = nullptr;
  const StackPool* stacks_ = nullptr;
  LaneClocks clocks_;
  size_t shared_bytes_ = 0;
  uint32_t epoch_ = 0;
  uint64_t steps_ = 0;
  // The first epoch of each block of the launch, and its index.
  std::vector<std::pair<uint32_t, uint3>> blocks_;
};

Memory& memory();

}  // namespace emulator
