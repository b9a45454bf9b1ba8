// Functions that belong to the kernel that calls them: their accesses are found on its lines.
#pragma once

#define EMULATOR_INLINE inline __attribute__((always_inline))
