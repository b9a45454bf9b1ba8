// Execution contexts of one thread of the machine: each CUDA thread is a fiber.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

class Fiber {
 public:
  // The context that is running: that of the scheduler.
  Fiber() = default;
  // A context that starts in `entry`, which must not return.
  Fiber(char* stack, size_t bytes, void (*entry)());
  ~Fiber();
  Fiber(Fiber&& other) noexcept;
  Fiber& operator=(Fiber&&) = delete;

  // Leaves `from`, which runs, for `to`.
  static void resume(Fiber& from, Fiber& to);

  // Tells the sanitizers where a new fiber begins; first thing in `entry`.
  static void started(Fiber& scheduler);

 private:
  void* stack_pointer_ = nullptr;
  char* stack_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
  void* announced_ = nullptr;
};

// Stacks side by side in one mapping, kept from launch to launch.
class StackPool {
 public:
  // Room for calls and local arrays; pages that are never touched cost nothing.
  static constexpr size_t BYTES = 256 * 1024;

  ~StackPool();
  void reserve(size_t count);
  char* stack(size_t index) const { return base_ + index * BYTES; }
  // Index of the stack that holds an address, or -1.
  long find(uintptr_t address) const {
    const uintptr_t offset = address - reinterpret_cast<uintptr_t>(base_);
    return offset < count_ * BYTES ? static_cast<long>(offset / BYTES) : -1;
  }

 private:
  char* base_ = nullptr;
  size_t count_ = 0;
};

}  // namespace emulator
