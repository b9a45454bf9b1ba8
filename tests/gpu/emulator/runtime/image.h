// The executable or shared library that holds the kernels, as it lies in memory.
#pragma once

#include <cstdint>
#include <utility>

namespace emulator {

// First and past-the-last address of the thread-local variables of the calling thread.
std::pair<uintptr_t, uintptr_t> thread_local_variables();

// Whether an address is that of a constant or of code.
bool is_constant(uintptr_t address);

uint32_t offset_in_image(uintptr_t code);
uintptr_t address_in_image(uint32_t offset);

// What __launch_bounds__ says of a kernel; 0 where it says nothing.
unsigned launch_bound(const void* kernel);

}  // namespace emulator
