// Kernels with planted mistakes, and sound ones. All take (x, y, n, stride), for one binding.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#define PLANTED_KERNELS(K)          \
  K(read_before_barrier)            \
  K(write_before_barrier)           \
  K(barrier_in_branches)            \
  K(barrier_in_uneven_loop)         \
  K(barrier_after_exit)             \
  K(exit_before_barrier)            \
  K(lanes_wait_for_each_other)      \
  K(barrier_and_shuffle)            \
  K(caller_not_in_mask)             \
  K(exited_lane_in_mask)            \
  K(exit_while_named)               \
  K(absent_lane_in_mask)            \
  K(shuffle_from_outside_mask)      \
  K(different_masks)                \
  K(different_functions)            \
  K(odd_width)                      \
  K(warp_without_syncwarp)          \
  K(shuffle_orders_nothing)         \
  K(syncwarp_of_others)             \
  K(warps_with_syncwarp)            \
  K(one_address_for_all)            \
  K(update_across_blocks)           \
  K(read_across_blocks)             \
  K(plain_and_atomic)               \
  K(plain_and_atomic_across_blocks) \
  K(neighbouring_bytes_overlap)     \
  K(load_one_past)                  \
  K(store_one_past)                 \
  K(store_one_before)               \
  K(load_null)                      \
  K(shared_one_past)                \
  K(static_shared_one_past)         \
  K(local_array_one_past)           \
  K(stack_of_another_thread)        \
  K(memcpy_one_past)                \
  K(shared_not_written)             \
  K(static_shared_not_written)      \
  K(shared_counter_not_set)         \
  K(misaligned_float4)              \
  K(misaligned_double)              \
  K(stack_overflow)                 \
  K(endless_loop)                   \
  K(endless_spin)                   \
  K(index_overflow)                 \
  K(offset_of_32_bits)              \
  K(offset_of_64_bits)              \
  K(shift_too_far)                  \
  K(accumulator_not_set)            \
  K(bounded_by_64)                  \
  K(block_sum)                      \
  K(warp_scan)                      \
  K(hadamard)                       \
  K(histogram)                      \
  K(copy_float4)                    \
  K(strided_copy)                   \
  K(votes)                          \
  K(warp_transpose)                 \
  K(reused_tile)                    \
  K(byte_flags)                     \
  K(atomics)                        \
  K(spin_lock)                      \
  K(arrivals)                       \
  K(indices)

#define PLANTED_DECLARE(name) void name(float* x, float* y, int64_t n, int64_t stride);
extern "C" {
PLANTED_KERNELS(PLANTED_DECLARE)
}
#undef PLANTED_DECLARE
