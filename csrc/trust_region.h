// The trust-region problem in the eigenbasis of the Hessian, one problem a row: the t that makes
// g^T t + t^T diag(e) t / 2 smallest over |t| <= radius, and its multiplier lambda.
//
// Contract of every backend: (e_i + lambda) t_i = -g_i, e_i + lambda >= 0, lambda >= 0 and
// lambda (|t| - radius) = 0, each within rounding of its own terms. Eigenvalues come in any order.
// Where g has no weight on the lowest eigenvalue e_min <= 0 and the other components do not reach
// the boundary (the hard case), lambda = -e_min and the first coordinate of that eigenvalue takes
// the length that is left, with the sign of -g there, + for 0; for e_min = 0 and g = 0 there, the
// shorter minimiser inside is returned. Radius 0: t = 0 and lambda = max(0, -e_min), as no finite
// number is a multiplier. A number that is not finite, or a negative radius, makes its row NaN and
// no other. A row gets the same bits alone and in company.
//
// With origin = max(0, -e_min), poles a_i = e_i + origin >= 0 and lambda = origin + shift, the
// length |t| = |g / (a + shift)| falls as shift > 0 grows. Poles next to the lowest one are
// differences of eigenvalues, taken once: no digits are lost however close lambda is to -e_min.
// 1 / |t| is concave in the shift, so Newton's method on 1 / |t| = 1 / radius never passes the root
// from the left and gives a bound from below wherever it starts (Conn, Gould and Toint 2000,
// chapter 7; More and Sorensen 1983).
#pragma once

#include "host_device.h"
#include "real.h"

namespace hessx {

// Problems (batch, k), k >= 1; strides in elements. step (batch, k) and multiplier (batch) are
// contiguous.
template <class Real>
struct TrustRegionCall {
  const Real* eigenvalues;
  int64_t eigenvalues_batch_stride, eigenvalues_stride;
  const Real* gradient;
  int64_t gradient_batch_stride, gradient_stride;
  const Real* radius;
  int64_t radius_stride;
  int64_t batch, k;
  Real *step, *multiplier;
  int n_threads;
};

// Random problems take 4 or 5 evaluations of the length on average and 10 at the most, the edge of
// the hard case up to 20, poles spread over hundreds of decades up to 40.
constexpr int MAX_EVALUATIONS = 60;

// The smallest shift that is told from 0, in a problem scaled to 1: far below rounding, and far
// enough from underflow for the squares and quotients that the length is made of.
template <class Real>
constexpr Real SMALLEST_SHIFT = 0;
template <>
constexpr float SMALLEST_SHIFT<float> = 0x1p-100f;
template <>
constexpr double SMALLEST_SHIFT<double> = 0x1p-900;

namespace HESSX_LEVEL {

// One problem, spread over the lanes of a vector (CPU) or a warp (CUDA). Lanes has
//   Real, and Value: what one of its strips holds of a row, a vector or a number;
//   strips(), eigenvalue(strip), gradient(strip): past the end of the row, its first eigenvalue
//     and a gradient of 0, which change nothing;
//   sum(value), largest(value), smallest(value): over the lanes, the same number for all of them;
//   store(strip, value): writes a part of the step;
//   first_of(eigenvalue): the first coordinate with this eigenvalue;
//   gradient_at(i), store_at(i, number): of one coordinate.
template <class Lanes>
class TrustRegion {
 public:
  using Real = typename Lanes::Real;
  using Value = typename Lanes::Value;

  // Writes the step and gives the multiplier.
  HESSX_HD static Real solve(const Lanes& lanes, Real radius) {
    Value lowest_value = lanes.eigenvalue(0);
    Value largest_eigenvalue = {}, largest_gradient = {};
    for (int64_t strip = 0; strip < lanes.strips(); ++strip) {
      const Value e = lanes.eigenvalue(strip);
      lowest_value = e < lowest_value ? e : lowest_value;
      largest_eigenvalue = larger(largest_eigenvalue, magnitude(e));
      largest_gradient = larger(largest_gradient, magnitude(lanes.gradient(strip)));
    }
    const Real lowest = lanes.smallest(lowest_value);
    const Real steepest = lanes.largest(largest_gradient);
    const Real widest = lanes.largest(largest_eigenvalue);
    const Real zero_or_nan = steepest * 0 + widest * 0 + square_root(radius) * 0;
    if (zero_or_nan != 0) return fill(lanes, zero_or_nan);
    const Real origin = lowest < 0 ? -lowest : 0;
    if (radius == 0) {
      fill(lanes, 0);
      return origin;
    }
    if (lowest >= 0 && solve_inside(lanes, radius)) return 0;
    return TrustRegion(lanes, radius, lowest, widest, steepest).solve_on_boundary();
  }

 private:
  // Kahan's: its error does not grow with the number of terms.
  struct CompensatedSum {
    Value value = {}, excess = {};

    HESSX_HD void add(const Value& x) {
      const Value corrected = x - excess;
      const Value next = value + corrected;
      excess = (next - value) - corrected;
      value = next;
    }
  };

  struct Length {
    Real square;
    Real fall;  // -1/2 of the derivative of the square by the shift
  };

  // Powers of two that turn radius into [1, 2) and the larger one of |g| and radius |e| into
  // [1/2, 2): exact, and no number overflows.
  HESSX_HD TrustRegion(const Lanes& lanes, Real radius, Real lowest, Real widest, Real steepest)
      : TrustRegion(lanes, radius, lowest, exponent_of(radius) - 1,
                    top_exponent(exponent_of(radius) - 1, widest, steepest), widest, steepest) {}

  HESSX_HD TrustRegion(const Lanes& lanes, Real radius, Real lowest, int radius_exponent, int top,
                       Real widest, Real steepest)
      : lanes_(lanes),
        // The exponent of what is all zero follows from the others and may be beyond any number.
        eigenvalue_scale_(widest == 0 ? 0 : radius_exponent - top),
        gradient_scale_(steepest == 0 ? 0 : -top),
        radius_exponent_(radius_exponent),
        top_(top),
        lowest_(lowest),
        radius_(times_power_of_two(radius, -radius_exponent)),
        origin_(lowest < 0 ? eigenvalue_scale_ * -lowest : 0),
        highest_pole_(eigenvalue_scale_ * widest + origin_) {}

  HESSX_HD static int top_exponent(int radius_exponent, Real widest, Real steepest) {
    if (widest == 0) return exponent_of(steepest);
    const int of_curvature = exponent_of(widest) + radius_exponent;
    if (steepest == 0) return of_curvature;
    const int of_gradient = exponent_of(steepest);
    return of_gradient > of_curvature ? of_gradient : of_curvature;
  }

  HESSX_HD static Real fill(const Lanes& lanes, Real number) {
    const Value zero = {};
    for (int64_t strip = 0; strip < lanes.strips(); ++strip) lanes.store(strip, zero + number);
    return number;
  }

  // The step of Newton where it is inside the radius; g_i = 0 asks for no step even for e_i = 0.
  HESSX_HD static bool solve_inside(const Lanes& lanes, Real radius) {
    const Value zero = {};
    CompensatedSum square;
    for (int64_t strip = 0; strip < lanes.strips(); ++strip) {
      const Value g = lanes.gradient(strip);
      const Value relative = g == zero ? zero : g / lanes.eigenvalue(strip) / radius;
      square.add(relative * relative);
    }
    // Infinite where e_i = 0 or the square overflows; the compensation then makes it NaN.
    const bool inside = lanes.sum(square.value) <= 1;
    if (inside) {
      for (int64_t strip = 0; strip < lanes.strips(); ++strip) {
        const Value g = lanes.gradient(strip);
        lanes.store(strip, g == zero ? zero : -g / lanes.eigenvalue(strip));
      }
    }
    return inside;
  }

  HESSX_HD Value pole(int64_t strip) const {
    return eigenvalue_scale_ * lanes_.eigenvalue(strip) + origin_;
  }

  HESSX_HD Real lowest_pole() const { return eigenvalue_scale_ * lowest_ + origin_; }

  HESSX_HD Value gradient(int64_t strip) const { return gradient_scale_ * lanes_.gradient(strip); }

  // |t_i| <= radius for each i gives a shift that is not too large.
  HESSX_HD Real shift_from_below() const {
    Value shift = {};
    for (int64_t strip = 0; strip < lanes_.strips(); ++strip) {
      shift = larger(shift, magnitude(gradient(strip)) / radius_ - pole(strip));
    }
    return larger(lanes_.largest(shift), SMALLEST_SHIFT<Real>);
  }

  HESSX_HD Length length_at(Real shift) const {
    CompensatedSum square;
    Value fall = {};
    for (int64_t strip = 0; strip < lanes_.strips(); ++strip) {
      const Value inverse = 1 / (pole(strip) + shift);
      const Value t = gradient(strip) * inverse;
      square.add(t * t);
      fall += t * t * inverse;
    }
    return {lanes_.sum(square.value), lanes_.sum(fall)};
  }

  HESSX_HD Real solve_on_boundary() const {
    Real shift = shift_from_below();
    Length length = length_at(shift);
    const bool hard =
        lowest_ <= 0 && shift == SMALLEST_SHIFT<Real> && length.square < radius_ * radius_;
    if (!hard) shift = find_shift(shift, length);
    const PowerOfTwo<Real> step_scale(radius_exponent_);
    for (int64_t strip = 0; strip < lanes_.strips(); ++strip) {
      lanes_.store(strip, step_scale * (-gradient(strip) / (pole(strip) + shift)));
    }
    if (hard) reach_boundary(shift, length.square);
    return PowerOfTwo<Real>(top_ - radius_exponent_) * (hard ? origin_ : origin_ + shift);
  }

  // From a shift that is not too large, and the length there.
  HESSX_HD Real find_shift(Real shift, Length length) const {
    Real low = shift, high = 0, last_excess = 0;
    for (int evaluations = 1; evaluations < MAX_EVALUATIONS; ++evaluations) {
      const Real excess = square_root(length.square) / radius_ - 1;
      const Real newton = shift + length.square / length.fall * excess;
      if (magnitude(excess) <= 8 * ROUNDING<Real>) return shift < newton ? newton : shift;
      bool slow = false;
      if (excess > 0) {
        low = shift;
        // No component shrinks less than the one of the highest pole; twice as far for rounding.
        const Real bound = shift + 2 * (highest_pole_ + shift) * excess;
        high = high > 0 && high < bound ? high : bound;
        slow = last_excess > 0 && 4 * excess > last_excess;
        last_excess = excess;
      } else {
        high = shift;
      }
      shift = !slow && low < newton && newton < high ? newton : middle(low, high);
      length = length_at(shift);
    }
    return shift;
  }

  // Newton is slow where it still has far to go relative to its distance from the poles, which is
  // what this halves the logarithm of.
  HESSX_HD Real middle(Real low, Real high) const {
    const Real distance =
        square_root(low + lowest_pole()) * square_root(high + lowest_pole()) - lowest_pole();
    return distance > low && distance < high ? distance : low + (high - low) / 2;
  }

  // Gives the first coordinate of the lowest eigenvalue the length that the step lacks.
  HESSX_HD void reach_boundary(Real shift, Real square) const {
    const int64_t i = lanes_.first_of(lowest_);
    const Real g = lanes_.gradient_at(i);
    const Real t = gradient_scale_ * g / (lowest_pole() + shift);
    const Real length = square_root(radius_ * radius_ - square + t * t);
    lanes_.store_at(i, PowerOfTwo<Real>(radius_exponent_) * (g > 0 ? -length : length));
  }

  const Lanes& lanes_;
  PowerOfTwo<Real> eigenvalue_scale_, gradient_scale_;
  int radius_exponent_, top_;
  Real lowest_, radius_, origin_, highest_pole_;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
