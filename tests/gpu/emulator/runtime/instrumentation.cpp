// Kernels are compiled with -fsanitize=thread, which announces every access to memory by a call.
// Here these calls lead to the emulator, in place of ThreadSanitizer's library.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "block.h"
#include "fault.h"
#include "memory.h"

using emulator::AccessKind;
using emulator::Block;
using emulator::memory;

namespace {

uintptr_t address_of(const volatile void* p) { return reinterpret_cast<uintptr_t>(p); }

template <class T>
void atomic_access(const volatile T* p, void* code) {
  memory().check({AccessKind::atomic, address_of(p), sizeof(T), address_of(code)}, true);
}

}  // namespace

#define CODE address_of(__builtin_return_address(0))

#define EMULATOR_ACCESS(bytes)                                             \
  void __tsan_read##bytes(void* p) {                                       \
    memory().check({AccessKind::read, address_of(p), bytes, CODE}, true);  \
  }                                                                        \
  void __tsan_write##bytes(void* p) {                                      \
    memory().check({AccessKind::write, address_of(p), bytes, CODE}, true); \
  }                                                                        \
  void __tsan_volatile_read##bytes(void* p) {                              \
    memory().check({AccessKind::read, address_of(p), bytes, CODE}, true);  \
  }                                                                        \
  void __tsan_volatile_write##bytes(void* p) {                             \
    memory().check({AccessKind::write, address_of(p), bytes, CODE}, true); \
  }

// No lock is needed: kernels run on one thread. Others may run between two atomic accesses.
#define EMULATOR_ATOMIC(bits, T)                                                              \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                    \
    atomic_access(p, __builtin_return_address(0));                                            \
    Block::current->yield();                                                                  \
    return *p;                                                                                \
  }                                                                                           \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T value, int, \
                                                    int) {                                    \
    atomic_access(p, __builtin_return_address(0));                                            \
    const T old = *p;                                                                         \
    const bool equal = old == *expected;                                                      \
    if (equal) *p = value;                                                                    \
    *expected = old;                                                                          \
    return equal;                                                                             \
  }

extern "C" {

void __tsan_init() {}

void __tsan_func_entry(void*) {
  if (!Block::current) return;
  const uintptr_t code = CODE;
  memory().step(code);
  memory().check_stack(address_of(__builtin_frame_address(0)), code);
}

void __tsan_func_exit() {}

EMULATOR_ACCESS(1)
EMULATOR_ACCESS(2)
EMULATOR_ACCESS(4)
EMULATOR_ACCESS(8)
EMULATOR_ACCESS(16)

void __tsan_read_range(void* p, size_t bytes) {
  memory().check({AccessKind::read, address_of(p), bytes, CODE}, false);
}

void __tsan_write_range(void* p, size_t bytes) {
  memory().check({AccessKind::write, address_of(p), bytes, CODE}, false);
}

EMULATOR_ATOMIC(16, uint16_t)
EMULATOR_ATOMIC(32, uint32_t)
EMULATOR_ATOMIC(64, uint64_t)

// The kernels' calls of the library's functions are renamed to these.
void* emulator_memcpy(void* to, const void* from, size_t bytes) {
  memory().check({AccessKind::read, address_of(from), bytes, CODE}, false);
  memory().check({AccessKind::write, address_of(to), bytes, CODE}, false);
  return std::memcpy(to, from, bytes);
}

void* emulator_memmove(void* to, const void* from, size_t bytes) {
  memory().check({AccessKind::read, address_of(from), bytes, CODE}, false);
  memory().check({AccessKind::write, address_of(to), bytes, CODE}, false);
  return std::memmove(to, from, bytes);
}

void* emulator_memset(void* to, int value, size_t bytes) {
  memory().check({AccessKind::write, address_of(to), bytes, CODE}, false);
  return std::memset(to, value, bytes);
}
}
