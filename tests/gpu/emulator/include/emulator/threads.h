// What a CUDA thread knows of itself, and how it meets the others: barriers, shuffles and votes.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "inline.h"
#include "vector_types.h"

namespace emulator {

// `const` lets the compiler keep what stays the same for as long as a thread lives.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) uint3 block_size();
__attribute__((const)) uint3 grid_size();

// Waits for every thread of the block; the number of them that gave true.
int block_barrier(bool vote, const char* file, int line);

enum class Collective {
  synchronise,
  shuffle_index,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
};

// Waits for the lanes of `mask`; what this lane gets. `operand` is the lane, shift or lane mask.
uint64_t warp_collective(Collective, unsigned mask, uint64_t value, int operand, int width);

template <class T>
EMULATOR_INLINE T shuffle(Collective collective, unsigned mask, T value, int operand, int width) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "CUDA shuffles words of 32 and 64 bits");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = warp_collective(collective, mask, bits, operand, width);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulator

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define blockDim (::emulator::block_size())
#define gridDim (::emulator::grid_size())
constexpr int warpSize = 32;

// The default arguments are evaluated where the kernel calls: they name the barrier.
#define EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

EMULATOR_INLINE void __syncthreads(EMULATOR_HERE) { emulator::block_barrier(false, file, line); }
EMULATOR_INLINE int __syncthreads_count(int predicate, EMULATOR_HERE) {
  return emulator::block_barrier(predicate != 0, file, line);
}
EMULATOR_INLINE int __syncthreads_or(int predicate, EMULATOR_HERE) {
  return emulator::block_barrier(predicate != 0, file, line) != 0;
}
EMULATOR_INLINE int __syncthreads_and(int predicate, EMULATOR_HERE) {
  return emulator::block_barrier(predicate == 0, file, line) == 0;
}

#undef EMULATOR_HERE

EMULATOR_INLINE void __syncwarp(unsigned mask = 0xffffffffu) {
  emulator::warp_collective(emulator::Collective::synchronise, mask, 0, 0, 32);
}

template <class T>
EMULATOR_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return emulator::shuffle(emulator::Collective::shuffle_index, mask, value, lane, width);
}
template <class T>
EMULATOR_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned shift, int width = 32) {
  return emulator::shuffle(emulator::Collective::shuffle_up, mask, value, shift, width);
}
template <class T>
EMULATOR_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned shift, int width = 32) {
  return emulator::shuffle(emulator::Collective::shuffle_down, mask, value, shift, width);
}
template <class T>
EMULATOR_INLINE T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return emulator::shuffle(emulator::Collective::shuffle_xor, mask, value, lane_mask, width);
}

EMULATOR_INLINE unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(
      emulator::warp_collective(emulator::Collective::ballot, mask, predicate != 0, 0, 32));
}
EMULATOR_INLINE int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
EMULATOR_INLINE int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate == 0) == 0;
}
