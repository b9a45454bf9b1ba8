// How many tiles there are, and how much of the last one is left.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace HESSX_LEVEL
}  // namespace hessx
