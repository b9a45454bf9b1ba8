// Storage for one call.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "counts.h"
#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// Storage that is not initialised: pages nobody touches cost nothing.
template <class T>
class Array {
 public:
  explicit Array(int64_t size)
      : data_(static_cast<T*>(std::aligned_alloc(
            64, ceil_div(size * static_cast<int64_t>(sizeof(T)) + 1, 64) * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Array() { std::free(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* operator+(int64_t offset) const { return data_ + offset; }

 private:
  T* data_;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
