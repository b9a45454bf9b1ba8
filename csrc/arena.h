// Memory for the buffers of one thread: measured first, then handed out in the same order.
#pragma once

#include <cstdint>

#include "counts.h"
#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

class Arena {
 public:
  // Without memory it only counts.
  explicit Arena(char* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(int64_t count) {
    T* taken = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += ceil_div(count * static_cast<int64_t>(sizeof(T)), CACHE_LINE) * CACHE_LINE;
    return taken;
  }

  int64_t bytes() const { return bytes_; }

  static constexpr int64_t CACHE_LINE = 64;

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
