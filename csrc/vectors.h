// Vectors of lanes that begin anywhere in memory, and ranges of numbers cut into them.
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
// One that every level has.
template <class Real>
using NarrowVector = Vector<Real, 16 / sizeof(Real)>;

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

template <class Value, class Real, class Body>
void cover(int64_t n, const Body& body) {
  constexpr int64_t WIDTH = sizeof(Value) / sizeof(Real);
  int64_t at = 0;
  for (; at + WIDTH <= n; at += WIDTH) body(Value{}, at);
  if (at < n) body(Value{}, n - WIDTH);
}

// Calls body(Value{}, at) until each of [0, n) has been in a Value that begins at `at`. The last
// Value reaches back over numbers that were done: to do them again must change nothing.
template <class Real, class Body>
void for_vectors(int64_t n, const Body& body) {
  constexpr int64_t NARROW = sizeof(NarrowVector<Real>) / sizeof(Real);
  if (n >= LANES<Real>) return cover<Vector<Real>, Real>(n, body);
  if (n >= NARROW) return cover<NarrowVector<Real>, Real>(n, body);
  for (int64_t at = 0; at < n; ++at) body(Real{}, at);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
