// Rows of numbers in memory.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {

// Sets of rows (batch, rows, columns) whose columns lie side by side; strides in elements, a batch
// stride of 0 shares one set.
template <class Real>
struct RowSets {
  const Real* data;
  int64_t batch_stride, row_stride;
};

}  // namespace hessx
