// One block of CUDA threads: who runs next, and where threads wait for each other.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "emulator/launch.h"
#include "emulator/threads.h"
#include "emulator/vector_types.h"
#include "fiber.h"

namespace emulator {

constexpr int LANES = 32;

struct Thread {
  enum class State { ready, at_barrier, in_warp, done };

  Fiber fiber;
  uint3 index;
  int number;
  State state = State::ready;
  // What it waits in, and what it gets.
  Collective collective = {};
  unsigned mask = 0;
  uint64_t value = 0;
  int operand = 0, width = LANES;
  int barrier_result = 0;
  uintptr_t waits_at = 0;

  int lane() const { return number % LANES; }
  int warp() const { return number / LANES; }
};

// Which accesses of a warp's lanes each lane knows to be over: vector clocks. Only __syncwarp
// exchanges them; shuffles and votes do not order memory.
struct WarpClocks {
  std::array<std::array<uint32_t, LANES>, LANES> known = {};
};

// Numbers of threads, each at most once. It allocates nothing and copies by no library function,
// which ThreadSanitizer would take for a kernel's.
class ReadyQueue {
 public:
  explicit ReadyQueue(size_t capacity) : numbers_(capacity) {}

  size_t size() const { return size_; }
  void push(int number) { at(size_++) = number; }
  // Takes one out, `place` steps from the front; the first one gets its place.
  int pop(size_t place) {
    std::swap(at(0), at(place));
    const int number = at(0);
    first_ = (first_ + 1) % numbers_.size();
    --size_;
    return number;
  }

 private:
  int& at(size_t place) { return numbers_[(first_ + place) % numbers_.size()]; }

  std::vector<int> numbers_;
  size_t first_ = 0, size_ = 0;
};

class Block {
 public:
  Block(uint3 index, dim3 size, dim3 grid, const Body& body, StackPool& stacks, unsigned seed);

  // Runs all threads to their ends, or until one fails.
  void run();

  // The rest is called by the thread that runs.
  int barrier(bool vote, const char* file, int line, uintptr_t code);
  uint64_t collective(Collective, unsigned mask, uint64_t value, int operand, int width,
                      uintptr_t code);
  // Lets others run: where atomics meet, any order must be possible.
  void yield();
  [[noreturn]] void abandon();

  uint3 index() const { return index_; }
  dim3 size() const { return size_; }
  dim3 grid() const { return grid_; }
  Thread& running() { return *running_; }
  const WarpClocks& clocks(int warp) const { return clocks_[warp]; }
  // Accesses are ordered by a barrier if one of higher epoch follows one of lower epoch.
  uint32_t epoch() const { return epoch_; }

  // What all threads of a launch release when they end, for whoever uses their results.
  static void acquire_ended_threads();

  // The block that runs, if one does.
  static Block* current;

 private:
  static void enter();
  void finish();
  void suspend(Thread::State);
  void wake(Thread&);
  void report_deadlock();
  void exchange_clocks(int warp, unsigned mask);
  void complete_collective(int warp, unsigned mask);

  uint3 index_;
  dim3 size_, grid_;
  const Body& body_;
  std::vector<Thread> threads_;
  std::vector<WarpClocks> clocks_;
  ReadyQueue ready_;
  std::minstd_rand random_;
  bool shuffled_;
  bool failed_ = false;
  Fiber scheduler_;
  Thread* running_ = nullptr;

  int at_barrier_ = 0, votes_ = 0, done_ = 0;
  const char* barrier_file_ = nullptr;
  int barrier_line_ = 0;
  uint32_t epoch_;
};

}  // namespace emulator
