// The potential on the faces that certifies a picture, as a function of the picture alone.
//
// A potential is optimal iff its difference along each edge lies between two numbers that the
// difference of the picture decides: minus the slopes of |a| within the bounds on its right and on
// its left. If there are several, the largest one is taken, the distances from the outer face.
// Those of the simplex are one of them, where it stopped; with them no length is negative, so that
// Dijkstra's algorithm finds the distances, and a negative length would prove the picture wrong.
#pragma once

#include "arena.h"
#include "grid_graph.h"

namespace hessx {
namespace HESSX_LEVEL {

class FacePotential {
 public:
  FacePotential(const GridSize& size, const Ends* ends, Arena& arena)
      : graph_(size),
        ends_(ends),
        forward_(arena.take<int32_t>(size.edges())),
        backward_(arena.take<int32_t>(size.edges())),
        potential_(arena.take<int32_t>(graph_.cells())),
        distance_(arena.take<int32_t>(graph_.cells())),
        queue_(arena.take<int32_t>(graph_.cells())) {}

  // An optimal potential to start from. Outside it stays 0.
  void clear() {
    for (int64_t c = 0; c < graph_.cells(); ++c) potential_[c] = 0;
  }
  void set(int64_t i, int64_t j, int32_t value) { potential_[graph_.cell(i, j)] = value; }

  // Writes the largest one. False if the start was not optimal for this picture.
  bool find(const int64_t* picture, const int64_t* centre, int64_t radius, int32_t* out) {
    if (!measure(picture, centre, radius)) return false;
    const GridSize& size = graph_.size();
    for (int64_t c = 0; c < graph_.cells(); ++c) distance_[c] = FAR;
    for (int64_t j = 0; j < size.p2 - 1; ++j) {
      relax(graph_.root(), size.h(0, j));
      relax(graph_.root(), size.h(size.p1 - 1, j));
    }
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      relax(graph_.root(), size.v(i, 0));
      relax(graph_.root(), size.v(i, size.p2 - 1));
    }
    for (int32_t reached = -1, next; (next = next_distance(reached)) != FAR; reached = next) {
      visit(next);
    }
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2 - 1; ++j) {
        const int64_t c = graph_.cell(i, j);
        if (distance_[c] == FAR) return false;
        out[i * (size.p2 - 1) + j] = potential_[c] + distance_[c];
      }
    }
    return true;
  }

 private:
  static constexpr int32_t FAR = int32_t{1} << 30;

  // Lengths of the edges: how far the potential at the head, or at the tail, may rise.
  bool measure(const int64_t* picture, const int64_t* centre, int64_t radius) {
    const PixelGraph pixels(graph_.size());
    bool optimal = true;
    for (int64_t r = 0; r < graph_.size().rows(); ++r) {
      const EdgeRow pixel_row = pixels.row(r), face_row = graph_.row(r);
      for (int64_t j = 0; j < face_row.count; ++j) {
        const int64_t e = face_row.first + j;
        const int64_t a = picture[pixel_row.head + j] - picture[pixel_row.tail + j];
        const int32_t phi = potential_[face_row.head + j] - potential_[face_row.tail + j];
        const int32_t least = a < 0 ? 1 : -1, largest = a > 0 ? -1 : 1;
        forward_[e] = a == centre[e] - radius ? FAR : largest - phi;
        backward_[e] = a == centre[e] + radius ? FAR : phi - least;
        optimal = optimal && forward_[e] >= 0 && backward_[e] >= 0 && a >= centre[e] - radius &&
                  a <= centre[e] + radius;
      }
    }
    return optimal;
  }

  void relax(int32_t v, int64_t e) {
    const bool from_tail = ends_[e].tail == v;
    const int32_t length = from_tail ? forward_[e] : backward_[e];
    const int32_t other = from_tail ? ends_[e].head : ends_[e].tail;
    const int32_t start = v == graph_.root() ? 0 : distance_[v];
    if (length == FAR || other == graph_.root() || distance_[other] <= start + length) return;
    distance_[other] = start + length;
    if (length == 0 && queued_ >= 0) queue_[queued_++] = other;
  }

  // The smallest distance beyond those that are done. There are few: most lengths are 0, 1 or 2.
  int32_t next_distance(int32_t reached) const {
    int32_t next = FAR;
    for (int64_t c = 0; c < graph_.cells(); ++c) {
      if (distance_[c] > reached && distance_[c] < next) next = distance_[c];
    }
    return next;
  }

  // All faces at one distance.
  void visit(int32_t distance) {
    const GridSize& size = graph_.size();
    queued_ = 0;
    for (int64_t c = 0; c < graph_.cells(); ++c) {
      if (distance_[c] == distance) queue_[queued_++] = static_cast<int32_t>(c);
    }
    for (int64_t k = 0; k < queued_; ++k) {
      const int32_t v = queue_[k];
      const int64_t i = v / (size.p2 + 1) - 1, j = v % (size.p2 + 1) - 1;
      relax(v, size.h(i, j));
      relax(v, size.h(i + 1, j));
      relax(v, size.v(i, j));
      relax(v, size.v(i, j + 1));
    }
    queued_ = -1;
  }

  FaceGraph graph_;
  const Ends* ends_;
  int32_t *forward_, *backward_, *potential_, *distance_, *queue_;
  int64_t queued_ = -1;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
