// What Python calls, by way of ctypes.
#include <exception>
#include <string>

#include "emulator/kernel_table.h"
#include "fault.h"
#include "image.h"
#include "launch.h"
#include "memory.h"

using emulator::kernel_table;
using emulator::last_fault;
using emulator::memory;

extern "C" {
#pragma GCC visibility push(default)

int emulator_kernel_count() { return static_cast<int>(kernel_table().size()); }
const char* emulator_kernel_name(int kernel) { return kernel_table().at(kernel).name.c_str(); }
const char* emulator_kernel_signature(int kernel) {
  return kernel_table().at(kernel).signature.c_str();
}

void emulator_configure(unsigned seed, uint64_t max_steps) {
  emulator::launch_seed = seed;
  memory().max_steps = max_steps;
}

// `allowed` and `written` have a byte a granule; null stands for all.
void emulator_add_buffer(uintptr_t base, size_t bytes, size_t granule, const uint8_t* allowed,
                         const uint8_t* written) {
  emulator::Region& region = memory().add_buffer(base, bytes, granule);
  if (allowed) region.set_allowed(allowed);
  if (written) region.set_written(written);
}

void emulator_get_written(uintptr_t base, uint8_t* written) {
  memory().find_buffer(base)->get_written(written);
}

void emulator_clear_buffers() { memory().clear_buffers(); }

// Whether the launch went well; if not, the rest says what was wrong.
bool emulator_launch(int kernel, const uint64_t* arguments) {
  last_fault() = {};
  try {
    kernel_table().at(kernel).call(arguments);
  } catch (const std::exception& error) {
    // The binding throws what the runtime told it, in fewer words than the fault has.
    if (last_fault().kind.empty()) last_fault() = emulator::Fault{"launch", error.what()};
  }
  return last_fault().kind.empty();
}

const char* emulator_fault_kind() { return last_fault().kind.c_str(); }
const char* emulator_fault_message() { return last_fault().message.c_str(); }

struct FaultPlace {
  bool in_thread;
  unsigned block[3], thread[3];
  uintptr_t address;
  // Offsets in the module's file; 0 where there is none.
  uint32_t code, other_code;
};

void emulator_fault_place(FaultPlace* place) {
  const emulator::Fault& fault = last_fault();
  const auto offset = [](uintptr_t code) { return code ? emulator::offset_in_image(code) : 0; };
  *place = {fault.in_thread,
            {fault.block.x, fault.block.y, fault.block.z},
            {fault.thread.x, fault.thread.y, fault.thread.z},
            fault.address,
            offset(fault.code),
            offset(fault.other_code)};
}

#pragma GCC visibility pop
}
