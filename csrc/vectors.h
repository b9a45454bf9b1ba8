// Vectors of lanes that begin anywhere in memory, full registers and parts of them.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "tile.h"

namespace hessx {
namespace HESSX_LEVEL {

// Rows begin where they may: only single numbers are aligned.
template <class Real, int COUNT>
struct LanesOf {
  typedef Real Type
      __attribute__((vector_size(COUNT * sizeof(Real)), aligned(alignof(Real)), may_alias));
};
template <class Real>
struct LanesOf<Real, 1> {
  using Type = Real;
};
template <class Real, int COUNT = LANES<Real>>
using Vector = typename LanesOf<Real, COUNT>::Type;

template <class Value, class Real>
Value load(const Real* from) {
  return *reinterpret_cast<const Value*>(from);
}

template <class Value, class Real>
void store(Real* to, const Value& value) {
  *reinterpret_cast<Value*>(to) = value;
}

// A number in every lane.
template <class Value, class Real>
Value broadcast(Real x) {
  return Value{} + x;
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
