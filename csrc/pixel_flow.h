// The dual of the face form: a flow phi on the graph of the pixels, whose potentials are the
// picture. An edge costs -high phi below -weight, -near phi between -weight and weight and
// -low phi above, where low, high = centre -+ radius and near is what is next to zero within them:
// the difference of the picture along the edge is high, near or low there.
//
// The radius changes slopes, not breakpoints: a flow and its strongly feasible tree stay what they
// are, and a few pivots lead from the solution for one radius to that for the next.
#pragma once

#include "arena.h"
#include "network_simplex.h"

namespace hessx {
namespace HESSX_LEVEL {

class PixelEdges {
 public:
  // Where the flow is: inside a piece, on the tree or not, or at rest between two pieces.
  enum Place : int8_t { BELOW, AT_MINUS_WEIGHT, BETWEEN, AT_WEIGHT, ABOVE };

  PixelEdges(int64_t count, const int64_t* weight, const int64_t* centre, int64_t radius,
             const int64_t* flow, int8_t* place, const Prices& prices)
      : count_(count),
        weight_(weight),
        centre_(centre),
        flow_(flow),
        radius_(radius),
        place_(place),
        prices_(prices) {}

  int64_t count() const { return count_; }
  bool inside(int64_t e) const { return place_[e] % 2 == 0; }

  static Place place_of(int64_t flow, int64_t weight) {
    if (flow < -weight) return BELOW;
    if (flow == -weight) return AT_MINUS_WEIGHT;
    if (flow < weight) return BETWEEN;
    return flow == weight ? AT_WEIGHT : ABOVE;
  }

  // From a flow inside a piece to the end of the piece.
  int64_t room(int64_t e, int64_t flow, bool up) const {
    if (up) return place_[e] == ABOVE ? UNLIMITED : end(e, place_[e] + 1) - flow;
    return place_[e] == BELOW ? UNLIMITED : flow - end(e, place_[e] - 1);
  }
  // The flow of a tree edge, from what it can take more and less.
  int64_t flow(int64_t e, int64_t more, int64_t less) const {
    return place_[e] == BELOW ? end(e, AT_MINUS_WEIGHT) - more : end(e, place_[e] - 1) + less;
  }
  int64_t flow(int64_t e) const { return inside(e) ? flow_[e] : end(e, place_[e]); }
  // What the picture's difference along a tree edge must be.
  int64_t difference(int64_t e) const { return prices_.lower[e]; }

  int64_t ahead(int64_t e, bool up) const {
    if (inside(e)) return room(e, flow_[e], up);
    const bool between = (place_[e] == AT_WEIGHT) != up;
    return between ? 2 * weight_[e] : UNLIMITED;
  }
  int64_t behind(int64_t e, bool up) const { return inside(e) ? room(e, flow_[e], !up) : 0; }
  void enter(int64_t e, bool up) { settle(e, inside(e) ? place_[e] : place_[e] + (up ? 1 : -1)); }
  void leave(int64_t e, bool up) { settle(e, place_[e] + (up ? 1 : -1)); }
  void pass(int64_t e, bool up) {
    const int step = inside(e) ? 1 : 2;
    settle(e, place_[e] + (up ? step : -step));
  }

  void settle(int64_t e, int place) {
    const int64_t low = centre_[e] - radius_, high = centre_[e] + radius_;
    const int64_t near = low > 0 ? low : high < 0 ? high : 0;
    place_[e] = static_cast<int8_t>(place);
    prices_.lower[e] = place == BELOW ? high : place < AT_WEIGHT ? near : low;
    prices_.upper[e] = place <= AT_MINUS_WEIGHT ? high : place < ABOVE ? near : low;
  }
  void settle(int64_t e) { settle(e, place_[e]); }

 private:
  int64_t end(int64_t e, int place) const { return place < BETWEEN ? -weight_[e] : weight_[e]; }

  int64_t count_;
  const int64_t *weight_, *centre_, *flow_;
  int64_t radius_;
  int8_t* place_;
  Prices prices_;
};

// Solves the problem of one picture for one radius after the other.
class PixelFlow {
 public:
  PixelFlow(const GridSize& size, const Ends* ends, const int64_t* weight, Arena& arena)
      : graph_(size),
        ends_(ends),
        weight_(weight),
        flow_(arena.take<int64_t>(size.edges())),
        place_(arena.take<int8_t>(size.edges())),
        prices_{arena.take<int64_t>(graph_.cells()), arena.take<int64_t>(size.edges()),
                arena.take<int64_t>(size.edges())},
        tree_(arena.take<char>(SpanningTree::bytes(graph_.cells())), graph_.cells()) {}

  // The flow to start from; it must have no sources.
  int64_t* flow() { return flow_; }
  const int64_t* picture() const { return prices_.potential; }
  int64_t pivots() const { return pivots_; }

  // A tree for the flow that was written: of edges inside a piece, as far as they reach.
  void start() {
    const int64_t edges = graph_.size().edges();
    for (int64_t e = 0; e < edges; ++e) place_[e] = PixelEdges::place_of(flow_[e], weight_[e]);
    for (int64_t v = 0; v < graph_.cells(); ++v) tree_[static_cast<int32_t>(v)].size = 0;
    PixelEdges costs(edges, weight_, nullptr, 0, flow_, place_, prices_);
    tree_.plant(graph_.root());
    for (int32_t k = 0; k < tree_.planted(); ++k) attach_neighbours(costs, k, true);
    for (int32_t k = 0; k < tree_.planted(); ++k) attach_neighbours(costs, k, false);
    tree_.finish();
  }

  // From the last flow to the optimal one. False only if a mistake made the problem unbounded.
  bool solve(const int64_t* centre, int64_t radius) {
    const GridSize& size = graph_.size();
    PixelEdges edges(size.edges(), weight_, centre, radius, flow_, place_, prices_);
    for (int64_t e = 0; e < size.edges(); ++e) edges.settle(e);
    prices_.potential[graph_.root()] = 0;
    for (int32_t v = tree_.next(graph_.root()); v != graph_.root(); v = tree_.next(v)) {
      const TreeNode& node = tree_[v];
      const int64_t difference = edges.difference(node.edge);
      prices_.potential[v] =
          prices_.potential[node.parent] + (ends_[node.edge].head == v ? difference : -difference);
    }
    NetworkSimplex<PixelGraph, PixelEdges> simplex(graph_, ends_, edges, tree_, prices_,
                                                   3 * size.p2);
    if (!simplex.run()) return false;
    pivots_ = simplex.pivots();
    return true;
  }

  // The flow of every edge.
  void read(const int64_t* centre, int64_t radius, int64_t* flow) const {
    const int64_t count = graph_.size().edges();
    const PixelEdges edges(count, weight_, centre, radius, flow_, place_, prices_);
    for (int64_t e = 0; e < count; ++e) flow[e] = edges.flow(e);
    for (int32_t v = tree_.next(graph_.root()); v != graph_.root(); v = tree_.next(v)) {
      const TreeNode& node = tree_[v];
      const bool up = ends_[node.edge].tail == v;
      flow[node.edge] = edges.flow(node.edge, up ? node.room_up : node.room_down,
                                   up ? node.room_down : node.room_up);
    }
  }

 private:
  void attach_neighbours(PixelEdges& edges, int32_t k, bool inside_only) {
    const GridSize& size = graph_.size();
    const int32_t parent = tree_.planted(k);
    const int64_t i = parent / size.p2, j = parent % size.p2;
    if (j > 0) attach(edges, size.h(i, j - 1), parent, inside_only);
    if (j < size.p2 - 1) attach(edges, size.h(i, j), parent, inside_only);
    if (i > 0) attach(edges, size.v(i - 1, j), parent, inside_only);
    if (i < size.p1 - 1) attach(edges, size.v(i, j), parent, inside_only);
  }

  void attach(PixelEdges& edges, int64_t e, int32_t parent, bool inside_only) {
    const bool up = ends_[e].head == parent;
    const int32_t v = up ? ends_[e].tail : ends_[e].head;
    if (tree_[v].size > 0 || (inside_only && !edges.inside(e))) return;
    // At rest it joins the piece that has room towards the parent.
    if (!edges.inside(e)) place_[e] = static_cast<int8_t>(place_[e] + (up ? 1 : -1));
    const int64_t more = edges.room(e, flow_[e], true), less = edges.room(e, flow_[e], false);
    tree_.attach(v, parent, static_cast<int32_t>(e), up ? more : less, up ? less : more);
  }

  PixelGraph graph_;
  const Ends* ends_;
  const int64_t* weight_;
  int64_t* flow_;
  int8_t* place_;
  Prices prices_;
  SpanningTree tree_;
  int64_t pivots_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
