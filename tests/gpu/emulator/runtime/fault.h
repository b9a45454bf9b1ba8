// What was wrong with a launch. The first fault ends it.
#pragma once

#include <cstdint>
#include <string>

#include "emulator/vector_types.h"

namespace emulator {

struct Fault {
  std::string kind;
  std::string message;
  bool in_thread = false;
  uint3 block = {}, thread = {};
  uintptr_t address = 0;
  // Where the kernel was, and where the access was that this one races with.
  uintptr_t code = 0, other_code = 0;
};

// Of the last launch; its kind is empty where nothing was wrong.
Fault& last_fault();

// Ends the launch from inside a CUDA thread, whose stack is left as it is: kernels own nothing.
[[noreturn]] void fail(Fault fault);

std::string text_of(uint3 index);

}  // namespace emulator
