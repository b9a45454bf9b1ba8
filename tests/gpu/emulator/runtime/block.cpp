#include "block.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "fault.h"
#include "memory.h"

// Only there in a program that was linked with ThreadSanitizer.
extern "C" {
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
}

namespace emulator {

namespace {

void acquire(void* object) {
  if (__tsan_acquire) __tsan_acquire(object);
}

void release(void* object) {
  if (__tsan_release) __tsan_release(object);
}

// Its address stands for the end of threads.
char ended_threads;

std::string place(const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line);
}

std::string hexadecimal(unsigned mask) {
  char text[16];
  snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

bool has(unsigned mask, int lane) { return mask >> lane & 1; }

// The lane that a shuffle reads: its own where the operand leads out of its segment.
int source_lane(const Thread& thread) {
  const int lane = thread.lane();
  const int first = lane & ~(thread.width - 1);
  const int last = first + thread.width - 1;
  switch (thread.collective) {
    case Collective::shuffle_index: return first + (thread.operand & (thread.width - 1));
    case Collective::shuffle_up:
      return lane - thread.operand < first ? lane : lane - thread.operand;
    case Collective::shuffle_down:
      return lane + thread.operand > last ? lane : lane + thread.operand;
    case Collective::shuffle_xor:
      return (lane ^ thread.operand) > last ? lane : lane ^ thread.operand;
    default: return lane;
  }
}

}  // namespace

Block* Block::current = nullptr;

void Block::acquire_ended_threads() { acquire(&ended_threads); }

Block::Block(uint3 index, dim3 size, dim3 grid, const Body& body, StackPool& stacks, unsigned seed)
    : index_(index),
      size_(size),
      grid_(grid),
      body_(body),
      ready_(size.x * size.y * size.z),
      random_(seed),
      shuffled_(seed != 0) {
  const int count = size.x * size.y * size.z;
  clocks_.resize((count + LANES - 1) / LANES);
  threads_.reserve(count);
  for (int i = 0; i < count; ++i) {
    const unsigned n = i;
    Fiber fiber(stacks.stack(i), StackPool::BYTES, enter);
    Thread thread{std::move(fiber), {n % size.x, n / size.x % size.y, n / size.x / size.y}, i};
    threads_.push_back(std::move(thread));
    clocks_[i / LANES].known[i % LANES][i % LANES] = 1;
    ready_.push(i);
  }
  epoch_ = memory().next_epoch();
}

void Block::run() {
  current = this;
  while (ready_.size() > 0 && !failed_) {
    running_ = &threads_[ready_.pop(shuffled_ ? random_() % ready_.size() : 0)];
    Fiber::resume(scheduler_, running_->fiber);
    running_ = nullptr;
  }
  if (!failed_ && done_ < static_cast<int>(threads_.size())) report_deadlock();
  current = nullptr;
}

void Block::enter() {
  Block& block = *current;
  Fiber::started(block.scheduler_);
  block.body_.call(block.body_.kernel, block.body_.args);
  block.finish();
}

void Block::finish() {
  ++done_;
  release(&ended_threads);
  Thread& me = *running_;
  // A warp's lanes may be waiting for this one.
  for (const Thread& other : threads_) {
    if (other.warp() == me.warp() && other.state == Thread::State::in_warp &&
        has(other.mask, me.lane())) {
      Fault fault{"mask", "lane " + std::to_string(me.lane()) + " exits, while lane " +
                              std::to_string(other.lane()) + " waits for it by the mask " +
                              hexadecimal(other.mask)};
      fault.code = other.waits_at;
      fail(fault);
    }
  }
  if (at_barrier_ > 0) {
    Fault fault{"barrier", "a thread exits, while " + std::to_string(at_barrier_) +
                               " wait at the barrier " + place(barrier_file_, barrier_line_)};
    fail(fault);
  }
  suspend(Thread::State::done);
  __builtin_unreachable();
}

void Block::suspend(Thread::State state) {
  running_->state = state;
  Fiber::resume(running_->fiber, scheduler_);
}

void Block::wake(Thread& thread) {
  thread.state = Thread::State::ready;
  ready_.push(thread.number);
}

void Block::yield() {
  ready_.push(running_->number);
  suspend(Thread::State::ready);
}

void Block::abandon() {
  failed_ = true;
  suspend(Thread::State::done);
  __builtin_unreachable();
}

int Block::barrier(bool vote, const char* file, int line, uintptr_t code) {
  Thread& me = *running_;
  if (done_ > 0) {
    Fault fault{"barrier", "barrier " + place(file, line) + " is reached after " +
                               std::to_string(done_) + " threads of the block exited"};
    fault.code = code;
    fail(fault);
  }
  const bool same = line == barrier_line_ && barrier_file_ && !std::strcmp(file, barrier_file_);
  if (at_barrier_ > 0 && !same) {
    Fault fault{"barrier", "threads of one block wait at two barriers: " + place(file, line) +
                               " and " + place(barrier_file_, barrier_line_)};
    fault.code = code;
    fail(fault);
  }
  barrier_file_ = file;
  barrier_line_ = line;
  me.waits_at = code;
  votes_ += vote;
  release(this);
  if (++at_barrier_ == static_cast<int>(threads_.size())) {
    for (Thread& thread : threads_) {
      thread.barrier_result = votes_;
      if (&thread != &me) wake(thread);
    }
    at_barrier_ = votes_ = 0;
    epoch_ = memory().next_epoch();
    yield();
  } else {
    suspend(Thread::State::at_barrier);
  }
  acquire(this);
  return me.barrier_result;
}

uint64_t Block::collective(Collective kind, unsigned mask, uint64_t value, int operand, int width,
                           uintptr_t code) {
  Thread& me = *running_;
  const auto wrong = [&](const std::string& what) {
    Fault fault{"mask", "mask " + hexadecimal(mask) + what};
    fault.code = code;
    fail(fault);
  };
  if (!has(mask, me.lane())) wrong(" does not name the calling lane " + std::to_string(me.lane()));
  if (width < 1 || width > LANES || (width & (width - 1)) != 0) {
    wrong(": the width must be a power of 2 up to 32, is " + std::to_string(width));
  }
  me.collective = kind;
  me.mask = mask;
  me.value = value;
  me.operand = operand;
  me.width = width;
  me.waits_at = code;
  const int first = me.number - me.lane();
  bool complete = true;
  for (int lane = 0; lane < LANES; ++lane) {
    if (!has(mask, lane) || lane == me.lane()) continue;
    if (first + lane >= static_cast<int>(threads_.size())) {
      wrong(" names lane " + std::to_string(lane) + ", which the block does not have");
    }
    const Thread& other = threads_[first + lane];
    if (other.state == Thread::State::done) {
      wrong(" names lane " + std::to_string(lane) + ", which has exited");
    }
    const bool waits = other.state == Thread::State::in_warp;
    const bool meets = waits && other.mask == mask && other.collective == kind;
    if (waits && !meets && has(other.mask, me.lane())) {
      wrong(": lane " + std::to_string(lane) +
            " waits for this one in another function or with another mask");
    }
    complete = complete && meets;
  }
  release(&clocks_[me.warp()]);
  if (complete) {
    complete_collective(me.warp(), mask);
    yield();
  } else {
    suspend(Thread::State::in_warp);
  }
  if (kind == Collective::synchronise) acquire(&clocks_[me.warp()]);
  return me.value;
}

void Block::complete_collective(int warp, unsigned mask) {
  const int first = warp * LANES;
  std::array<uint64_t, LANES> values = {};
  unsigned ballot = 0;
  for (int lane = 0; lane < LANES; ++lane) {
    if (!has(mask, lane)) continue;
    values[lane] = threads_[first + lane].value;
    ballot |= static_cast<unsigned>(values[lane] & 1) << lane;
  }
  const Collective kind = running_->collective;
  for (int lane = 0; lane < LANES; ++lane) {
    if (!has(mask, lane)) continue;
    Thread& thread = threads_[first + lane];
    if (kind == Collective::ballot) {
      thread.value = ballot;
    } else if (kind != Collective::synchronise) {
      const int source = source_lane(thread);
      if (source < 0 || source >= LANES || !has(mask, source)) {
        Fault fault{"mask", "a shuffle gives lane " + std::to_string(lane) + " the value of lane " +
                                std::to_string(source) + ", which is not in the mask " +
                                hexadecimal(mask)};
        fault.code = thread.waits_at;
        fail(fault);
      }
      thread.value = values[source];
    }
    if (&thread != running_) wake(thread);
  }
  if (kind == Collective::synchronise) exchange_clocks(warp, mask);
}

void Block::exchange_clocks(int warp, unsigned mask) {
  auto& known = clocks_[warp].known;
  std::array<uint32_t, LANES> joined = {};
  for (int lane = 0; lane < LANES; ++lane) {
    if (!has(mask, lane)) continue;
    for (int i = 0; i < LANES; ++i) joined[i] = std::max(joined[i], known[lane][i]);
  }
  for (int lane = 0; lane < LANES; ++lane) {
    if (!has(mask, lane)) continue;
    known[lane] = joined;
    ++known[lane][lane];
  }
}

void Block::report_deadlock() {
  for (Thread& thread : threads_) {
    if (thread.state == Thread::State::done) continue;
    Fault fault{"deadlock", thread.state == Thread::State::at_barrier
                                ? "a thread waits at the barrier " +
                                      place(barrier_file_, barrier_line_) + " for others that wait"
                                : "a lane waits for the lanes of the mask " +
                                      hexadecimal(thread.mask) + ", which wait elsewhere"};
    fault.in_thread = true;
    fault.block = index_;
    fault.thread = thread.index;
    fault.code = thread.waits_at;
    last_fault() = fault;
    return;
  }
}

// What kernels call.

uint3 thread_index() { return Block::current->running().index; }
uint3 block_index() { return Block::current->index(); }

uint3 block_size() {
  const dim3 size = Block::current->size();
  return {size.x, size.y, size.z};
}

int block_barrier(bool vote, const char* file, int line) {
  const auto code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  return Block::current->barrier(vote, file, line, code);
}

uint3 grid_size() {
  const dim3 size = Block::current->grid();
  return {size.x, size.y, size.z};
}

uint64_t warp_collective(Collective kind, unsigned mask, uint64_t value, int operand, int width) {
  const auto code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  return Block::current->collective(kind, mask, value, operand, width, code);
}

}  // namespace emulator
