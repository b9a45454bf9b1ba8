// The two graphs of a grid of p1 x p2 pixels, edges in the order of the differences: horizontal
// ones by rows, then vertical ones by rows.
//
//   pixels: an edge goes from (i, j) to (i, j + 1) or to (i + 1, j), so that head minus tail of a
//     picture is the difference.
//   faces: h(i, j) goes from face (i - 1, j) to (i, j), v(i, j) from face (i, j) to (i, j - 1);
//     what is out of range is the outer face. An edge vector is a difference of a picture iff it is
//     a flow on this graph without sources: the curl of every face is zero.
//
// Nodes are cells of a rectangle, so that the potentials at the heads and at the tails of a row of
// edges are contiguous. That of the faces has a border, whose cells all stand for the outer face.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

struct Ends {
  int32_t tail, head;
};

// Edges [first, first + count), with consecutive tails and heads.
struct EdgeRow {
  int64_t first, count, tail, head;
};

struct GridSize {
  int64_t p1, p2;

  int64_t pixels() const { return p1 * p2; }
  int64_t horizontal() const { return p1 * (p2 - 1); }
  int64_t edges() const { return p1 * (p2 - 1) + (p1 - 1) * p2; }
  int64_t faces() const { return (p1 - 1) * (p2 - 1); }
  int64_t rows() const { return 2 * p1 - 1; }

  int64_t h(int64_t i, int64_t j) const { return i * (p2 - 1) + j; }
  int64_t v(int64_t i, int64_t j) const { return horizontal() + i * p2 + j; }
};

class PixelGraph {
 public:
  explicit PixelGraph(const GridSize& size) : size_(size) {}

  const GridSize& size() const { return size_; }
  int64_t cells() const { return size_.pixels(); }
  int64_t nodes() const { return size_.pixels(); }
  int32_t root() const { return static_cast<int32_t>(size_.p1 / 2 * size_.p2 + size_.p2 / 2); }
  int32_t node(int64_t cell) const { return static_cast<int32_t>(cell); }

  EdgeRow row(int64_t r) const {
    const int64_t p2 = size_.p2;
    if (r < size_.p1) return {r * (p2 - 1), p2 - 1, r * p2, r * p2 + 1};
    const int64_t i = r - size_.p1;
    return {size_.horizontal() + i * p2, p2, i * p2, (i + 1) * p2};
  }

 private:
  GridSize size_;
};

class FaceGraph {
 public:
  explicit FaceGraph(const GridSize& size) : size_(size) {}

  const GridSize& size() const { return size_; }
  int64_t cells() const { return (size_.p1 + 1) * (size_.p2 + 1); }
  int64_t nodes() const { return size_.faces() + 1; }
  int32_t root() const { return 0; }

  int64_t cell(int64_t i, int64_t j) const { return (i + 1) * (size_.p2 + 1) + j + 1; }
  int32_t node(int64_t cell) const {
    const int64_t i = cell / (size_.p2 + 1), j = cell % (size_.p2 + 1);
    const bool outer = i == 0 || j == 0 || i == size_.p1 || j == size_.p2;
    return outer ? root() : static_cast<int32_t>(cell);
  }

  EdgeRow row(int64_t r) const {
    const int64_t p2 = size_.p2;
    if (r < size_.p1) return {r * (p2 - 1), p2 - 1, cell(r - 1, 0), cell(r, 0)};
    const int64_t i = r - size_.p1;
    return {size_.horizontal() + i * p2, p2, cell(i, 0), cell(i, -1)};
  }

 private:
  GridSize size_;
};

// The ends of every edge: looking them up is cheaper than dividing by the width of the grid.
template <class Graph>
void tabulate_ends(const Graph& graph, Ends* ends) {
  for (int64_t r = 0; r < graph.size().rows(); ++r) {
    const EdgeRow row = graph.row(r);
    for (int64_t j = 0; j < row.count; ++j) {
      ends[row.first + j] = {graph.node(row.tail + j), graph.node(row.head + j)};
    }
  }
}

}  // namespace HESSX_LEVEL
}  // namespace hessx
