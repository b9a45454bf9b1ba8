// Functions of real numbers, under one name for float, double and, on the CPU, vectors of lanes.
// Arithmetic that uses them and otherwise only + - * /, comparisons and `mask ? a : b` serves all.
#pragma once

#if !defined(__CUDACC_RTC__)
#include <math.h>
#endif

#include "host_device.h"

namespace hessx {

// Half the distance from 1 to the next number: the largest relative error of one rounding.
template <class Real>
constexpr Real ROUNDING = 0;
template <>
constexpr float ROUNDING<float> = 0x1p-24f;
template <>
constexpr double ROUNDING<double> = 0x1p-53;

namespace HESSX_LEVEL {

// The functions of C, not the overloads of C++: those are inline, and the linker would keep one
// level's copy for all.
HESSX_HD float square_root(float x) { return ::sqrtf(x); }
HESSX_HD double square_root(double x) { return ::sqrt(x); }

#if !defined(__CUDACC__)
// Of a GCC vector, lane by lane: one instruction where the level has it.
template <class Vector, class = decltype(Vector{}[0])>
inline Vector square_root(Vector x) {
  Vector root;
  constexpr int LANES = sizeof(Vector) / sizeof(x[0]);
  for (int i = 0; i < LANES; ++i) root[i] = square_root(x[i]);
  return root;
}
#endif

template <class T>
HESSX_HD T magnitude(T x) {
  return x < 0 ? -x : x;
}

// The larger one; not finite if one of the two is not, unlike a comparison alone, which loses NaN.
template <class T>
HESSX_HD T larger(T x, T y) {
  return x < y ? y : x + (y - y);
}

// The exponent e of x = m 2^e, 1/2 <= m < 1, for x > 0, denormal numbers included; 0 for 0.
HESSX_HD int exponent_of(float x) {
  int exponent;
  ::frexpf(x, &exponent);
  return exponent;
}
HESSX_HD int exponent_of(double x) {
  int exponent;
  ::frexp(x, &exponent);
  return exponent;
}

// x 2^exponent, denormal and huge results included.
HESSX_HD float times_power_of_two(float x, int exponent) { return ::ldexpf(x, exponent); }
HESSX_HD double times_power_of_two(double x, int exponent) { return ::ldexp(x, exponent); }

// A power of two as two factors, either of which is a number even where their product is not.
template <class Real>
struct PowerOfTwo {
  HESSX_HD explicit PowerOfTwo(int exponent)
      : first(times_power_of_two(Real(1), exponent / 2)),
        second(times_power_of_two(Real(1), exponent - exponent / 2)) {}

  template <class Value>
  HESSX_HD Value operator*(Value x) const {
    return x * first * second;
  }

  Real first, second;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
