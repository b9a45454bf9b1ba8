// The face form: the differences of the picture are a flow on the graph of the faces, with cost
// weight_e |flow_e| within the bounds centre_e -+ radius.
#pragma once

#include "arena.h"
#include "network_simplex.h"
#include "real.h"

namespace hessx {
namespace HESSX_LEVEL {

class FaceEdges {
 public:
  // Where the flow is: at a bound or next to zero within them, or, on the tree, between.
  enum Place : int8_t { LOW, NEGATIVE, NEAR, POSITIVE, HIGH };

  FaceEdges(int64_t count, const int64_t* weight, const int64_t* centre, int64_t radius,
            int8_t* place, const Prices& prices)
      : count_(count),
        weight_(weight),
        centre_(centre),
        radius_(radius),
        place_(place),
        prices_(prices) {}

  int64_t count() const { return count_; }

  int64_t at(int64_t e, int place) const {
    const int64_t low = centre_[e] - radius_, high = centre_[e] + radius_;
    if (place <= LOW) return low;
    if (place >= HIGH) return high;
    return low > 0 ? low : high < 0 ? high : 0;
  }
  int64_t flow(int64_t e) const { return at(e, place_[e]); }
  bool at_rest(int64_t e) const { return place_[e] % 2 == 0; }
  bool free_at_zero(int64_t e) const { return magnitude(centre_[e]) < radius_; }

  // Of the piece that a tree edge is in.
  int64_t low_end(int64_t e) const { return at(e, place_[e] - 1); }
  int64_t length(int64_t e) const { return at(e, place_[e] + 1) - low_end(e); }

  int64_t ahead(int64_t e, bool up) const {
    return up ? at(e, place_[e] + 2) - flow(e) : flow(e) - at(e, place_[e] - 2);
  }
  int64_t behind(int64_t, bool) const { return 0; }
  void enter(int64_t e, bool up) { settle(e, place_[e] + (up ? 1 : -1)); }
  void leave(int64_t e, bool up) { settle(e, place_[e] + (up ? 1 : -1)); }
  void pass(int64_t e, bool up) { settle(e, place_[e] + (up ? 2 : -2)); }

  void settle(int64_t e, int place) {
    const int64_t weight = weight_[e];
    const int64_t near = at(e, NEAR);
    int64_t lower = -UNLIMITED, upper = UNLIMITED;
    switch (place) {
      case LOW: lower = weight; break;
      case NEGATIVE: lower = upper = weight; break;
      case NEAR:
        if (near < centre_[e] + radius_) lower = -weight;
        if (near > centre_[e] - radius_) upper = weight;
        break;
      case POSITIVE: lower = upper = -weight; break;
      default: upper = -weight;
    }
    place_[e] = static_cast<int8_t>(place);
    prices_.lower[e] = lower;
    prices_.upper[e] = upper;
  }

 private:
  int64_t count_;
  const int64_t *weight_, *centre_;
  int64_t radius_;
  int8_t* place_;
  Prices prices_;
};

// Solves one problem after the other in the same buffers.
class FaceFlow {
 public:
  FaceFlow(const GridSize& size, const Ends* ends, const int64_t* weight, Arena& arena)
      : graph_(size),
        ends_(ends),
        weight_(weight),
        excess_(arena.take<int64_t>(graph_.cells())),
        flow_(arena.take<int64_t>(size.edges())),
        place_(arena.take<int8_t>(size.edges())),
        prices_{arena.take<int64_t>(graph_.cells()), arena.take<int64_t>(size.edges()),
                arena.take<int64_t>(size.edges())},
        tree_(arena.take<char>(SpanningTree::bytes(graph_.cells())), graph_.cells()) {}

  const FaceGraph& graph() const { return graph_; }
  const int64_t* flow() const { return flow_; }
  int64_t potential(int64_t i, int64_t j) const { return prices_.potential[graph_.cell(i, j)]; }
  int64_t pivots() const { return pivots_; }

  // The differences of the potentials, a flow without sources on the pixels.
  void write_dual(int64_t* flow) const {
    for (int64_t r = 0; r < graph_.size().rows(); ++r) {
      const EdgeRow row = graph_.row(r);
      const int64_t *head = prices_.potential + row.head, *tail = prices_.potential + row.tail;
      for (int64_t j = 0; j < row.count; ++j) flow[row.first + j] = head[j] - tail[j];
    }
  }

  // From scratch. False only if a mistake made the problem unbounded or infeasible.
  bool solve(const int64_t* centre, int64_t radius) {
    const GridSize& size = graph_.size();
    FaceEdges edges(size.edges(), weight_, centre, radius, place_, prices_);
    start(edges);
    // A block of several rows costs little, as rows are priced in vector registers.
    NetworkSimplex<FaceGraph, FaceEdges> simplex(graph_, ends_, edges, tree_, prices_, size.p2 + 1);
    if (!simplex.run()) return false;
    pivots_ = simplex.pivots();
    return read(edges);
  }

 private:
  // Every edge rests next to zero. What that leaves at a face goes to the outer face by an
  // artificial edge, at a price above that of any path. Faces where nothing is left hang on edges
  // at zero.
  void start(FaceEdges& edges) {
    const GridSize& size = graph_.size();
    for (int64_t cell = 0; cell < graph_.cells(); ++cell) {
      excess_[cell] = 0;
      prices_.potential[cell] = 0;
      tree_[static_cast<int32_t>(cell)].size = 0;
    }
    for (int64_t e = 0; e < size.edges(); ++e) {
      edges.settle(e, FaceEdges::NEAR);
      const int64_t near = edges.flow(e);
      excess_[ends_[e].head] += near;
      excess_[ends_[e].tail] -= near;
    }
    tree_.plant(graph_.root());
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2 - 1; ++j) {
        const int32_t v = graph_.node(graph_.cell(i, j));
        if (excess_[v] != 0) attach_artificially(v);
      }
    }
    for (int64_t j = 0; j < size.p2 - 1; ++j) {
      attach_at_zero(edges, size.h(0, j), graph_.root());
      attach_at_zero(edges, size.h(size.p1 - 1, j), graph_.root());
    }
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      attach_at_zero(edges, size.v(i, 0), graph_.root());
      attach_at_zero(edges, size.v(i, size.p2 - 1), graph_.root());
    }
    for (int32_t k = 1; k < tree_.planted(); ++k) {
      const int32_t v = tree_.planted(k);
      const int64_t i = v / (size.p2 + 1) - 1, j = v % (size.p2 + 1) - 1;
      const int64_t around[] = {size.h(i, j), size.h(i + 1, j), size.v(i, j), size.v(i, j + 1)};
      for (const int64_t e : around) attach_at_zero(edges, e, v);
    }
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2 - 1; ++j) {
        const int32_t v = graph_.node(graph_.cell(i, j));
        if (!planted(v)) attach_artificially(v);
      }
    }
    tree_.finish();
  }

  bool planted(int32_t v) const { return tree_[v].size > 0; }

  void attach_artificially(int32_t v) {
    const int64_t price = UNLIMITED / 16;
    const int64_t excess = excess_[v];
    const bool up = excess >= 0;
    prices_.potential[v] = up ? price : -price;
    tree_.attach(v, graph_.root(), static_cast<int32_t>(graph_.size().edges()),
                 up ? UNLIMITED : -excess, up ? excess : UNLIMITED);
  }

  // The face on the other side of an edge, if the edge is free at zero.
  void attach_at_zero(FaceEdges& edges, int64_t e, int32_t parent) {
    const bool from = ends_[e].head == parent;
    const int32_t v = from ? ends_[e].tail : ends_[e].head;
    if (v == graph_.root() || planted(v) || !edges.free_at_zero(e)) return;
    prices_.potential[v] = prices_.potential[parent] + weight_[e];
    edges.settle(e, from ? FaceEdges::POSITIVE : FaceEdges::NEGATIVE);
    tree_.attach(v, parent, static_cast<int32_t>(e), edges.length(e), 0);
  }

  bool read(const FaceEdges& edges) {
    const GridSize& size = graph_.size();
    for (int64_t e = 0; e < size.edges(); ++e) {
      if (edges.at_rest(e)) flow_[e] = edges.flow(e);
    }
    for (int64_t i = 0; i < size.p1 - 1; ++i) {
      for (int64_t j = 0; j < size.p2 - 1; ++j) {
        const int32_t v = graph_.node(graph_.cell(i, j));
        const TreeNode& node = tree_[v];
        const int64_t e = node.edge;
        if (e == size.edges()) {
          if (node.room_up != 0 && node.room_down != 0) return false;
        } else {
          flow_[e] = edges.low_end(e) + (ends_[e].tail == v ? node.room_down : node.room_up);
        }
      }
    }
    return true;
  }

  FaceGraph graph_;
  const Ends* ends_;
  const int64_t* weight_;
  int64_t *excess_, *flow_;
  int8_t* place_;
  Prices prices_;
  SpanningTree tree_;
  int64_t pivots_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
