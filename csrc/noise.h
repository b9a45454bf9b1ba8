// Noise: uniform and normal numbers from Philox words. Contract of every backend:
//   key = seed; counter = (feature / 4, stream, sample low, sample high); feature j takes word
//   j % 4; words (x0, x1) and (x2, x3) make two normal numbers each.
// float32 uniform: (x >> 8) 2^-24; float64: x 2^-32. Both lie in [0, 1).
// normal: u1 = x0 2^-32 + 2^-33, rounded to the type; sqrt(-2 log u1) times cos and sin of
// 2 pi x1 2^-32. float32 log, sin and cos are polynomials good to about 1 ulp of the result;
// float64 calls the C library.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host_device.h"
#include "philox.h"

namespace hessx {

struct NoiseCall {
  int64_t n, m;                       // samples, features
  int64_t row_stride, column_stride;  // of the output, in elements
  uint64_t seed, first_sample;
  uint32_t stream;
  int64_t first_block;  // of four features, that column 0 begins with
  int n_threads;
};

namespace HESSX_LEVEL {

template <class To, class From>
HESSX_HD To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

HESSX_HD void uniform_of(uint32_t x, float& out) {
  // The shifted word fits a signed integer, whose conversion every instruction set has.
  out = static_cast<float>(static_cast<int32_t>(x >> 8)) * 0x1p-24f;
}

HESSX_HD void uniform_of(uint32_t x, double& out) { out = x * 0x1p-32; }

// log of a normal number in (0, 1]: x = 2^e (1 + f), 1/sqrt(2) <= 1 + f < sqrt(2), and a minimax
// polynomial for (log(1 + f) - f + f^2/2) / f^3.
HESSX_HD float log_unit(float x) {
  constexpr int32_t SQRT_HALF = 0x3f3504f3;
  const int32_t shifted = bits_of<int32_t>(x) - SQRT_HALF;
  const float e = static_cast<float>(shifted >> 23);
  const float f = bits_of<float>((shifted & 0x7fffff) + SQRT_HALF) - 1.0f;
  const float f2 = f * f;
  float p = -0.0763449653f;
  p = p * f + 0.12761577f;
  p = p * f - 0.131601824f;
  p = p * f + 0.14201758f;
  p = p * f - 0.166233573f;
  p = p * f + 0.200012269f;
  p = p * f - 0.25000821f;
  p = p * f + 0.333333317f;
  // log 2 in two parts: e times the first is exact.
  const float tail = p * f * f2 + e * -2.12194440e-4f - 0.5f * f2;
  return e * 0.693359375f + (f + tail);
}

// cos and sin of 2 pi x 2^-32. The integer gives the quadrant and the distance to its axis exactly,
// so no digits are lost however large the angle.
HESSX_HD void cos_sin_turn(uint32_t x, float& c, float& s) {
  const uint32_t quadrant = (x + 0x20000000u) >> 30;
  const float a =
      static_cast<float>(static_cast<int32_t>(x - (quadrant << 30))) * 1.46291807926715968e-9f;
  const float z = a * a;
  const float sine = a + a * z * (-0.166666549f + z * (0.00833217815f - z * 0.000195172989f));
  const float cosine =
      1.0f - 0.5f * z + z * z * (0.0416666469f + z * (-0.00138873675f + z * 2.44384515e-05f));
  // Odd quadrants swap the two; quadrants 1, 2 negate the cosine and 2, 3 the sine.
  const float from_cos = (quadrant & 1u) ? sine : cosine;
  const float from_sin = (quadrant & 1u) ? cosine : sine;
  c = bits_of<float>(bits_of<uint32_t>(from_cos) ^ (((quadrant + 1u) & 2u) << 30));
  s = bits_of<float>(bits_of<uint32_t>(from_sin) ^ ((quadrant & 2u) << 30));
}

HESSX_HD void normal_pair(uint32_t x0, uint32_t x1, float& first, float& second) {
  const float u1 = static_cast<float>(x0) * 0x1p-32f + 0x1p-33f;
  const float r = std::sqrt(-2.0f * log_unit(u1));
  float c, s;
  cos_sin_turn(x1, c, s);
  first = r * c;
  second = r * s;
}

HESSX_HD void normal_pair(uint32_t x0, uint32_t x1, double& first, double& second) {
  const double r = std::sqrt(-2.0 * std::log(x0 * 0x1p-32 + 0x1p-33));
  const double theta = x1 * 1.46291807926715968105e-9;  // 2 pi 2^-32
  first = r * std::cos(theta);
  second = r * std::sin(theta);
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
