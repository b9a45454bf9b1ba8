// How launches are run.
#pragma once

namespace emulator {

// Of the order in which blocks and threads run; 0 runs them in the order of their indices.
extern unsigned launch_seed;

}  // namespace emulator
