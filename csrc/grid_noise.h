// Noise on grids. Contract of every backend: z = D^T e + w / sqrt(p), e and w the first m
// and the last of the m + 1 normal numbers of a sample, as noise.h draws them, in the type of the
// result; horizontal edges first, then vertical ones, row by row. A sample does not depend on how
// pictures are divided: its terms are added up in one order.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

struct GridNormalCall {
  int64_t n, p1, p2;  // samples, rows and columns of a picture
  uint64_t seed, first_sample;
  uint32_t stream;
  int n_threads;
};

}  // namespace hessx
