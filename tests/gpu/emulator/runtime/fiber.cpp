#include "fiber.h"

#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <new>
#include <utility>

// Only there in a program that was linked with AddressSanitizer or ThreadSanitizer.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t*);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}

#if !defined(__x86_64__)
#error "the emulator switches stacks on x86-64 only"
#endif

// Saves what a function must preserve, changes stacks, and returns on the other one. The library's
// swapcontext makes a system call each time, and sanitizers intercept it.
extern "C" void emulator_switch_stack(void** save, void* load);
asm(R"(
    .text
    .globl emulator_switch_stack
    .hidden emulator_switch_stack
    .type emulator_switch_stack, @function
emulator_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch_stack, .-emulator_switch_stack
)");

namespace emulator {

namespace {

// ThreadSanitizer: a switch between fibers orders nothing.
constexpr unsigned NO_SYNCHRONISATION = 1;
constexpr int SAVED_REGISTERS = 6;

// ThreadSanitizer gives a new fiber the number of one that is gone, and sees no race between the
// two. So fibers outlive their blocks, for a while: it slows down with their number.
constexpr size_t MAX_RETIRED = 1024;

void retire(void* announced) {
  static std::deque<void*> retired;
  retired.push_back(announced);
  if (retired.size() > MAX_RETIRED) {
    __tsan_destroy_fiber(retired.front());
    retired.pop_front();
  }
}

}  // namespace

Fiber::Fiber(char* stack, size_t bytes, void (*entry)()) : stack_(stack), bytes_(bytes) {
  // As a call leaves it: the address to return to at 8 below a multiple of 16.
  void** top = reinterpret_cast<void**>(stack + bytes) - 2;
  *top = reinterpret_cast<void*>(entry);
  stack_pointer_ = top - SAVED_REGISTERS;
  std::memset(stack_pointer_, 0, SAVED_REGISTERS * sizeof(void*));
  if (__tsan_create_fiber) announced_ = __tsan_create_fiber(0);
}

Fiber::~Fiber() {
  if (announced_ && stack_) retire(announced_);
}

Fiber::Fiber(Fiber&& other) noexcept
    : stack_pointer_(other.stack_pointer_),
      stack_(other.stack_),
      bytes_(other.bytes_),
      fake_stack_(other.fake_stack_),
      announced_(std::exchange(other.announced_, nullptr)) {}

void Fiber::resume(Fiber& from, Fiber& to) {
  if (__tsan_switch_to_fiber) {
    if (!from.announced_) from.announced_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to.announced_, NO_SYNCHRONISATION);
  }
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.bytes_);
  }
  emulator_switch_stack(&from.stack_pointer_, to.stack_pointer_);
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
  }
}

void Fiber::started(Fiber& scheduler) {
  if (!__sanitizer_finish_switch_fiber) return;
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &scheduler.bytes_);
  scheduler.stack_ = const_cast<char*>(static_cast<const char*>(bottom));
}

StackPool::~StackPool() {
  if (base_) munmap(base_, count_ * BYTES);
}

void StackPool::reserve(size_t count) {
  if (count <= count_) return;
  if (base_) munmap(base_, count_ * BYTES);
  void* base = mmap(nullptr, count * BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<char*>(base);
  count_ = count;
}

}  // namespace emulator
