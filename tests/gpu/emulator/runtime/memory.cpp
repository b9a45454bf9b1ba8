#include "memory.h"

#include <algorithm>
#include <cstring>

#include "fault.h"
#include "image.h"

// Only there in a program that was linked with AddressSanitizer.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, size_t bytes);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, size_t bytes);
}

namespace hessx {

// What csrc/shared_memory.h declares.
alignas(16) thread_local unsigned char shared_memory[emulator::Memory::MAX_SHARED_BYTES];

}  // namespace hessx

namespace emulator {

namespace {

constexpr size_t MAX_GRANULE = 4;
constexpr size_t MIN_STACK_LEFT = 16 * 1024;

const char* name_of(AccessKind kind) {
  return kind == AccessKind::read ? "read" : kind == AccessKind::write ? "write" : "atomic access";
}

Fault fault_of(const char* kind, const Access& access, const std::string& where) {
  Fault fault{kind, std::string(name_of(access.kind)) + " of " + std::to_string(access.bytes) +
                        " bytes " + where};
  fault.address = access.address;
  fault.code = access.code;
  return fault;
}

uintptr_t dynamic_shared_memory() { return reinterpret_cast<uintptr_t>(hessx::shared_memory); }

}  // namespace

Region::Region(std::string name, uintptr_t base, size_t bytes, size_t granule)
    : name_(std::move(name)),
      base_(base),
      bytes_(bytes),
      granule_(std::min(granule, MAX_GRANULE)),
      first_granule_(granule_),
      cells_((bytes + granule_ - 1) / granule_) {}

void Region::set_allowed(const uint8_t* allowed) {
  for (size_t i = 0; i < cells_.size(); ++i) cells_[i].allowed = allowed[i];
}

void Region::set_written(const uint8_t* written) {
  for (size_t i = 0; i < cells_.size(); ++i) cells_[i].written = written[i];
}

void Region::get_written(uint8_t* written) const {
  const size_t parts = first_granule_ / granule_;
  for (size_t i = 0; i * parts < cells_.size(); ++i) {
    written[i] = true;
    for (size_t part = i * parts; part < std::min(cells_.size(), (i + 1) * parts); ++part) {
      written[i] = written[i] && cells_[part].written;
    }
  }
}

void Region::forget(size_t bytes) {
  Cell cell;
  cell.written = false;
  std::fill_n(cells_.begin(), (bytes + granule_ - 1) / granule_, cell);
}

std::pair<Cell*, Cell*> Region::cells(uintptr_t address, size_t bytes, LaneClocks& clocks) {
  const size_t offset = address - base_;
  if ((offset | bytes) % granule_ != 0) {
    split((offset | bytes) % 2 != 0 ? 1 : 2, clocks);
  }
  Cell* first = cells_.data() + offset / granule_;
  return {first, first + bytes / granule_};
}

void Region::split(size_t granule, LaneClocks& clocks) {
  const size_t parts = granule_ / granule;
  std::vector<Cell> cells;
  cells.reserve(cells_.size() * parts);
  for (const Cell& cell : cells_) {
    for (size_t part = 0; part < parts; ++part) {
      cells.push_back(cell);
      cells.back().reads = cell.reads.copy(clocks);
      cells.back().atomics = cell.atomics.copy(clocks);
    }
  }
  cells_ = std::move(cells);
  granule_ = granule;
}

Memory& memory() {
  static Memory instance;
  return instance;
}

Region& Memory::add_buffer(uintptr_t base, size_t bytes, size_t granule) {
  buffers_.emplace_back("buffer " + std::to_string(buffers_.size()), base, bytes, granule);
  return buffers_.back();
}

Region* Memory::find_buffer(uintptr_t address) {
  for (Region& region : buffers_) {
    if (region.holds(address)) return &region;
  }
  return nullptr;
}

void Memory::begin_launch(size_t shared_bytes) {
  shared_bytes_ = shared_bytes;
  steps_ = 0;
}

void Memory::begin_block(uint3 index, const StackPool& stacks) {
  stacks_ = &stacks;
  shared_.clear();
  last_found_ = nullptr;
  const uintptr_t dynamic = dynamic_shared_memory();
  if (__asan_unpoison_memory_region) {
    __asan_unpoison_memory_region(hessx::shared_memory, MAX_SHARED_BYTES);
  }
  // NaN in every type: a value that was never written must not pass for a zero.
  std::memset(hessx::shared_memory, 0xff, shared_bytes_);
  if (__asan_poison_memory_region) {
    __asan_poison_memory_region(hessx::shared_memory + shared_bytes_,
                                MAX_SHARED_BYTES - shared_bytes_);
  }
  if (shared_bytes_ > 0) shared_.emplace_back("shared memory", dynamic, shared_bytes_, MAX_GRANULE);
  // All other thread-local variables are static shared memory, on both sides of that array.
  const auto [first, last] = thread_local_variables();
  const auto add = [&](uintptr_t begin, uintptr_t end) {
    if (begin >= end) return;
    std::memset(reinterpret_cast<void*>(begin), 0xff, end - begin);
    shared_.emplace_back("static shared memory", begin, end - begin, 1);
  };
  add(first, dynamic);
  add(dynamic + MAX_SHARED_BYTES, last);
  for (Region& region : shared_) region.forget(region.bytes());
  blocks_.emplace_back(epoch_ + 1, index);
}

void Memory::end_launch() {
  shared_.clear();
  clocks_.clear();
  blocks_.clear();
  last_found_ = nullptr;
}

Region* Memory::find(uintptr_t address) {
  if (last_found_ && last_found_->holds(address)) return last_found_;
  for (std::vector<Region>* regions : {&shared_, &buffers_}) {
    for (Region& region : *regions) {
      if (region.holds(address)) return last_found_ = &region;
    }
  }
  return nullptr;
}

void Memory::step(uintptr_t code) {
  if (++steps_ <= max_steps) return;
  Fault fault{"endless", "more than " + std::to_string(max_steps) + " steps"};
  fault.code = code;
  fail(fault);
}

void Memory::check_stack(uintptr_t frame, uintptr_t code) {
  const auto bottom = reinterpret_cast<uintptr_t>(stacks_->stack(Block::current->running().number));
  if (frame - bottom > MIN_STACK_LEFT) return;
  Fault fault{"bounds", "the stack of a thread is used up"};
  fault.code = code;
  fail(fault);
}

void Memory::check(const Access& access, bool aligned) {
  if (!Block::current || access.bytes == 0) return;
  step(access.code);
  const Thread& me = Block::current->running();
  if (stacks_->find(access.address) == me.number) return;
  if (aligned && access.address % access.bytes != 0) {
    fail(fault_of("alignment", access, "at an address that is no multiple of its size"));
  }
  Region* region = find(access.address);
  if (!region || access.bytes > region->base() + region->bytes() - access.address) {
    if (access.kind == AccessKind::read && is_constant(access.address)) return;
    stray(access);
  }
  const auto& known = Block::current->clocks(me.warp()).known[me.lane()];
  const Observer observer = {
      {Block::current->epoch(), me.number, known[me.lane()], offset_in_image(access.code)},
      blocks_.back().first,
      &known};
  const auto [first, last] = region->cells(access.address, access.bytes, clocks_);
  for (Cell* cell = first; cell != last; ++cell) check(*cell, *region, access, observer);
}

void Memory::check(Cell& cell, const Region& region, const Access& access,
                   const Observer& observer) {
  if (!cell.allowed) stray(access);
  if (access.kind != AccessKind::write && !cell.written) {
    fail(fault_of("uninitialised", access, "in " + region.name() + ", where nothing was written"));
  }
  const Stamp other = cell.use(access.kind, observer, clocks_);
  if (other.epoch == 0) return;
  Fault fault =
      fault_of("race", access,
               "in " + region.name() + " races with an access by thread " +
                   std::to_string(other.thread) + " of block " + text_of(block_of(other)));
  fault.other_code = address_in_image(other.code);
  fail(fault);
}

uint3 Memory::block_of(const Stamp& stamp) const {
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), stamp.epoch,
                       [](uint32_t epoch, const auto& block) { return epoch < block.first; });
  return std::prev(after)->second;
}

void Memory::stray(const Access& access) {
  const uintptr_t address = access.address;
  std::string where;
  const uintptr_t beyond_shared = address - dynamic_shared_memory();
  const Region* nearest = nullptr;
  for (const Region& region : buffers_) {
    if (region.base() <= address && (!nearest || nearest->base() < region.base())) {
      nearest = &region;
    }
  }
  if (const long owner = stacks_->find(address); owner >= 0) {
    where += "on the stack of thread " + std::to_string(owner);
  } else if (beyond_shared < MAX_SHARED_BYTES) {
    where += "at byte " + std::to_string(beyond_shared) + " of " + std::to_string(shared_bytes_) +
             " bytes of shared memory";
  } else if (nearest && nearest->holds(address)) {
    where += "outside the elements of " + nearest->name() + ", at byte " +
             std::to_string(address - nearest->base()) + " of " + std::to_string(nearest->bytes());
  } else {
    where += "outside all buffers of the launch";
    if (nearest) {
      where += ", " + std::to_string(address - nearest->base()) + " bytes after " +
               nearest->name() + " of " + std::to_string(nearest->bytes()) + " bytes";
    }
  }
  fail(fault_of("bounds", access, where));
}

}  // namespace emulator
