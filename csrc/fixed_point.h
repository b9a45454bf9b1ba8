// Pictures as integers times a power of two.
#pragma once

#include "counts.h"
#include "grid_graph.h"
#include "real.h"

namespace hessx {
namespace HESSX_LEVEL {

class FixedPoint {
 public:
  explicit FixedPoint(const GridSize& size) : size_(size) {
    while ((int64_t{1} << longest_path_) < size.p1 + size.p2) ++longest_path_;
  }

  // Chooses the power of two for an estimate; false if the estimate is constant.
  bool choose(const double* estimate) {
    const int64_t pixels = size_.pixels();
    double largest = 0;
    for (int64_t i = 0; i < pixels; ++i) largest = larger(largest, magnitude(estimate[i]));
    // Differences of estimate / 2^top neither overflow nor underflow.
    top_ = exponent_of(largest);
    const PowerOfTwo<double> shrink(-top_);
    double steepest = 0;
    const PixelGraph graph(size_);
    for (int64_t r = 0; r < size_.rows(); ++r) {
      const EdgeRow row = graph.row(r);
      const double *head = estimate + row.head, *tail = estimate + row.tail;
      for (int64_t j = 0; j < row.count; ++j) {
        steepest = larger(steepest, magnitude(shrink * head[j] - shrink * tail[j]));
      }
    }
    steepest_ = steepest;
    bits_ = 51 - longest_path_ - exponent_of(steepest);
    return steepest > 0;
  }

  bool reaches_all(double radius) const { return PowerOfTwo<double>(-top_) * radius >= steepest_; }

  // The radius in units, rounded inward: by one for the remainder and one for the estimate.
  int64_t radius(double radius) const {
    const double units = PowerOfTwo<double>(bits_) * (PowerOfTwo<double>(-top_) * radius);
    return static_cast<int64_t>(units) - 2;
  }

  // Differences of the rounded estimate: exact, so that their curl is zero. Subtracting a pixel
  // first keeps what is left within 51 bits; it is off by less than a quarter of a unit.
  void differences(const double* estimate, int64_t* picture, int64_t* centre) const {
    const PowerOfTwo<double> shrink(-top_), units(bits_);
    const double origin = shrink * estimate[0];
    for (int64_t i = 0; i < size_.pixels(); ++i) {
      picture[i] = static_cast<int64_t>(::rint(units * (shrink * estimate[i] - origin)));
    }
    const PixelGraph graph(size_);
    for (int64_t r = 0; r < size_.rows(); ++r) {
      const EdgeRow row = graph.row(r);
      const int64_t *head = picture + row.head, *tail = picture + row.tail;
      for (int64_t j = 0; j < row.count; ++j) centre[row.first + j] = head[j] - tail[j];
    }
  }

  // A picture in units, less its mean rounded to a unit, halves up, as real numbers: a constant
  // that is added to the picture is added to its mean, so that nothing of it is left.
  void store(const int64_t* picture, double* out) const {
    const int64_t pixels = size_.pixels();
    // In two halves: a sum of 51-bit numbers may not fit an int64_t.
    int64_t high = 0, low = 0;
    for (int64_t i = 0; i < pixels; ++i) {
      high += picture[i] >> 26;
      low += picture[i] & ((int64_t{1} << 26) - 1);
    }
    // Downwards, also below zero, so that the rest is none below.
    const int64_t whole = high / pixels - (high % pixels < 0);
    const int64_t rest = (high - whole * pixels) * (int64_t{1} << 26) + low;
    const int64_t mean = whole * (int64_t{1} << 26) + (2 * rest + pixels) / (2 * pixels);
    const PowerOfTwo<double> real(top_ - bits_);
    for (int64_t i = 0; i < pixels; ++i) out[i] = real * static_cast<double>(picture[i] - mean);
  }

  // The estimate itself, less its mean.
  void store_estimate(const double* estimate, double* out) const {
    const PowerOfTwo<double> shrink(-top_), grow(top_);
    double mean = 0;
    for (int64_t i = 0; i < size_.pixels(); ++i) mean += shrink * estimate[i];
    mean /= static_cast<double>(size_.pixels());
    for (int64_t i = 0; i < size_.pixels(); ++i) out[i] = grow * (shrink * estimate[i] - mean);
  }

 private:
  GridSize size_;
  int longest_path_ = 0, top_ = 0, bits_ = 0;
  double steepest_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
