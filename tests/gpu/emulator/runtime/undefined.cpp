// Kernels are compiled with -fsanitize=undefined, whose checks call these functions when they fail.
// They are those of UndefinedBehaviorSanitizer's library, which ends the process or goes on; here
// the launch ends.
#include <cstdint>
#include <string>

#include "block.h"
#include "fault.h"

namespace {

// The compiler's description of a check begins with this, whatever the check.
struct Place {
  const char* file;
  uint32_t line, column;
};

struct TypeMismatch {
  Place place;
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};

[[noreturn]] void report(const char* kind, const std::string& what, const Place* place,
                         void* code) {
  const std::string file = place->file;
  emulator::Fault fault{
      kind, what + " at " + file.substr(file.rfind('/') + 1) + ":" + std::to_string(place->line)};
  fault.code = reinterpret_cast<uintptr_t>(code);
  emulator::fail(fault);
}

}  // namespace

// Each with words of its own: the compiler would make one function of two that are equal, and the
// place they are called from would be lost.
#define EMULATOR_UNDEFINED(name, kind, what)                \
  void __ubsan_handle_##name(const Place* place) {          \
    report(kind, what, place, __builtin_return_address(0)); \
  }

extern "C" {

void __ubsan_handle_type_mismatch_v1(const TypeMismatch* check, uintptr_t address) {
  const bool aligned = address % (uintptr_t{1} << check->log_alignment) == 0;
  report(aligned ? "bounds" : "alignment",
         aligned ? "access through an address that holds no such object"
                 : "access at an address that is not aligned for its type",
         &check->place, __builtin_return_address(0));
}

EMULATOR_UNDEFINED(out_of_bounds, "bounds", "index outside an array")
EMULATOR_UNDEFINED(add_overflow, "undefined", "integer overflow in a sum")
EMULATOR_UNDEFINED(sub_overflow, "undefined", "integer overflow in a difference")
EMULATOR_UNDEFINED(mul_overflow, "undefined", "integer overflow in a product")
EMULATOR_UNDEFINED(negate_overflow, "undefined", "integer overflow in a negation")
EMULATOR_UNDEFINED(divrem_overflow, "undefined", "integer division by zero or overflow")
EMULATOR_UNDEFINED(shift_out_of_bounds, "undefined", "shift by more bits than there are")
EMULATOR_UNDEFINED(pointer_overflow, "undefined", "overflow of an address")
EMULATOR_UNDEFINED(builtin_unreachable, "undefined", "code that cannot be reached")
EMULATOR_UNDEFINED(missing_return, "undefined", "end of a function without a value")
EMULATOR_UNDEFINED(vla_bound_not_positive, "undefined", "array of no length")
EMULATOR_UNDEFINED(load_invalid_value, "undefined", "value that its type does not have")
EMULATOR_UNDEFINED(nonnull_arg, "undefined", "null where it is not allowed")
EMULATOR_UNDEFINED(invalid_builtin, "undefined", "argument that a builtin does not take")
}
