// CUDA's atomic functions, for the types that CUDA has them for. They are relaxed: an atomic access
// orders nothing else.
#pragma once

#include <cstdint>
#include <type_traits>

#include "inline.h"

namespace emulator {

template <class T, class... Allowed>
constexpr bool is_one_of = (std::is_same_v<T, Allowed> || ...);

using Word = unsigned;
using LongWord = unsigned long long;

// Built on the compiler's atomics, which the instrumentation (ours or a sanitizer's) knows as such.
template <class T, class Next>
EMULATOR_INLINE T atomic_update(T* address, Next next) {
  T old, wanted;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do {
    wanted = next(old);
  } while (!__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED));
  return old;
}

}  // namespace emulator

// The second parameter takes no part in the deduction of T: atomicAdd(&x, 1) adds 1 as a T.
#define EMULATOR_ATOMIC(name, result, ...)                                           \
  template <class T>                                                                 \
  EMULATOR_INLINE T name(T* address, std::common_type_t<T> value) {                  \
    static_assert(emulator::is_one_of<T, __VA_ARGS__>, #name " has no such type");   \
    return emulator::atomic_update(address, [value](T old) -> T { return result; }); \
  }

#define EMULATOR_INTEGERS int, emulator::Word, emulator::LongWord

EMULATOR_ATOMIC(atomicAdd, old + value, EMULATOR_INTEGERS, float, double)
EMULATOR_ATOMIC(atomicSub, old - value, int, emulator::Word)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old, EMULATOR_INTEGERS, long long)
EMULATOR_ATOMIC(atomicMax, old < value ? value : old, EMULATOR_INTEGERS, long long)
EMULATOR_ATOMIC(atomicAnd, old& value, EMULATOR_INTEGERS)
EMULATOR_ATOMIC(atomicOr, old | value, EMULATOR_INTEGERS)
EMULATOR_ATOMIC(atomicXor, old ^ value, EMULATOR_INTEGERS)
EMULATOR_ATOMIC(atomicExch, ((void)old, value), EMULATOR_INTEGERS, float)
EMULATOR_ATOMIC(atomicInc, old >= value ? 0 : old + 1, emulator::Word)
EMULATOR_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1, emulator::Word)

#undef EMULATOR_INTEGERS
#undef EMULATOR_ATOMIC

template <class T>
EMULATOR_INLINE T atomicCAS(T* address, std::common_type_t<T> expected,
                            std::common_type_t<T> value) {
  static_assert(emulator::is_one_of<T, int, emulator::Word, emulator::LongWord, unsigned short>,
                "atomicCAS has no such type");
  return emulator::atomic_update(address,
                                 [=](T old) -> T { return old == expected ? value : old; });
}
