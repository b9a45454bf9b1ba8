// Network simplex for flows of convex piecewise-linear cost, in integers.
//
// minimise sum_e cost_e(flow_e) subject to inflow = outflow at every node. Each cost is linear
// between breakpoints. A basis is a spanning tree, whose edges lie inside a piece, and a rest at
// breakpoints; potentials make slope + potential(head) - potential(tail) zero on the tree. The
// basis is optimal once every edge at rest has its difference of potentials between minus the slope
// on its right and minus the slope on its left. Otherwise the edge that violates this most among a
// block of edges enters: flow goes round the cycle that it closes until an edge reaches a
// breakpoint.
//
// Ties are broken so that the tree stays strongly feasible (Cunningham 1976): every tree edge takes
// a positive amount towards the root, which excludes cycling. Of the edges that stop the flow, the
// last one along the cycle from its top leaves.
//
// Source: Ahuja, Magnanti and Orlin (1993), "Network flows", chapter 11.
#pragma once

#include "counts.h"
#include "grid_graph.h"
#include "spanning_tree.h"

namespace hessx {
namespace HESSX_LEVEL {

// More than any flow or difference of potentials, and far enough from overflow to add one to it.
constexpr int64_t UNLIMITED = int64_t{1} << 62;

// The potentials, and where an edge at rest may have the difference of potentials between its head
// and its tail: [lower, upper]. On the tree both are that difference.
struct Prices {
  int64_t *potential, *lower, *upper;
};

// Edges is the cost of each edge and where its flow rests:
//   ahead(e, up): how much more (up) or less an edge at rest takes until the next breakpoint;
//   behind(e, up): how much it can take back until the one before; 0 at a breakpoint;
//   enter(e, up): moves into the piece in that direction, becomes a tree edge;
//   leave(e, up): a tree edge comes to rest at the breakpoint in that direction;
//   pass(e, up): from rest to rest at the next breakpoint.
// They keep lower and upper.
template <class Graph, class Edges>
class NetworkSimplex {
 public:
  NetworkSimplex(const Graph& graph, const Ends* ends, Edges& edges, SpanningTree& tree,
                 const Prices& prices, int64_t block)
      : graph_(graph), ends_(ends), edges_(edges), tree_(tree), prices_(prices), block_(block) {}

  // From a strongly feasible tree and its potentials to an optimal one. False if the problem turns
  // out unbounded, which only a mistake can bring about.
  bool run() {
    next_row_ = 0;
    while (true) {
      const Entering entering = price();
      if (entering.violation <= 0) return true;
      if (!pivot(entering)) return false;
      ++pivots_;
    }
  }

  int64_t pivots() const { return pivots_; }

 private:
  struct Entering {
    int64_t violation, edge;
    bool up;
  };

  // The largest violation among the rows of a block at least; of all rows, if there is none.
  Entering price() {
    const int64_t rows = graph_.size().rows();
    int64_t best = 0, best_row = 0, in_block = 0;
    for (int64_t k = 0; k < rows; ++k) {
      const EdgeRow row = graph_.row(next_row_);
      const int64_t violation = largest_violation(row);
      if (violation > best) {
        best = violation;
        best_row = next_row_;
      }
      next_row_ = next_row_ + 1 < rows ? next_row_ + 1 : 0;
      in_block += row.count;
      if (best > 0 && in_block >= block_) break;
    }
    if (best == 0) return {0, 0, false};
    return find(graph_.row(best_row), best);
  }

  int64_t largest_violation(const EdgeRow& row) const {
    const int64_t *head = prices_.potential + row.head, *tail = prices_.potential + row.tail;
    const int64_t *lower = prices_.lower + row.first, *upper = prices_.upper + row.first;
    int64_t largest = 0;
    for (int64_t j = 0; j < row.count; ++j) {
      const int64_t difference = head[j] - tail[j];
      const int64_t below = lower[j] - difference, above = difference - upper[j];
      const int64_t violation = below > above ? below : above;
      largest = violation > largest ? violation : largest;
    }
    return largest;
  }

  Entering find(const EdgeRow& row, int64_t violation) const {
    for (int64_t j = 0;; ++j) {
      const int64_t e = row.first + j;
      const int64_t difference = prices_.potential[row.head + j] - prices_.potential[row.tail + j];
      if (prices_.lower[e] - difference == violation) return {violation, e, true};
      if (difference - prices_.upper[e] == violation) return {violation, e, false};
    }
  }

  bool pivot(const Entering& entering) {
    const int64_t e = entering.edge;
    const Ends ends = ends_[e];
    // Flow goes from first to second by the entering edge, up to the join and down to first.
    const int32_t first = entering.up ? ends.tail : ends.head;
    const int32_t second = entering.up ? ends.head : ends.tail;
    const int64_t ahead = edges_.ahead(e, entering.up);

    int64_t down_room = UNLIMITED, up_room = UNLIMITED;
    int32_t out_down = -1, out_up = -1;
    int32_t u = first, v = second;
    while (u != v) {
      const TreeNode &node_u = tree_[u], &node_v = tree_[v];
      if (node_u.size < node_v.size) {
        if (node_u.room_down < down_room) {
          down_room = node_u.room_down;
          out_down = u;
        }
        u = node_u.parent;
      } else {
        if (node_v.room_up <= up_room) {
          up_room = node_v.room_up;
          out_up = v;
        }
        v = node_v.parent;
      }
    }
    const int32_t join = u;
    const bool by_down = down_room < ahead && down_room < up_room;
    const bool by_up = !by_down && up_room <= ahead;
    const int64_t amount = by_down ? down_room : by_up ? up_room : ahead;
    if (amount >= UNLIMITED / 2) return false;
    if (amount > 0) push(first, second, join, amount);
    if (!by_down && !by_up) {
      edges_.pass(e, entering.up);
      return true;
    }

    const int32_t out = by_down ? out_down : out_up;
    const int32_t in = by_down ? first : second, parent = by_down ? second : first;
    const int32_t leaving = tree_[out].edge;
    // Flow towards the parent is flow from tail to head where the child is the tail.
    if (leaving < edges_.count()) edges_.leave(leaving, (ends_[leaving].tail == out) == by_up);
    // The flow goes from first to second: up the tree if first is the child.
    const int64_t further = ahead - amount, back = edges_.behind(e, entering.up) + amount;
    edges_.enter(e, entering.up);
    // Only the potentials of what hangs on the entering edge change, to close its violation.
    const int64_t shift =
        (in == ends.head) == entering.up ? entering.violation : -entering.violation;
    tree_.move(out, in, parent, join, static_cast<int32_t>(e), by_down ? further : back,
               by_down ? back : further);
    move_potentials(in, shift);
    return true;
  }

  void move_potentials(int32_t top, int64_t shift) {
    const int32_t last = tree_[top].last;
    for (int32_t v = top;; v = tree_.next(v)) {
      prices_.potential[v] += shift;
      if (v == last) break;
    }
  }

  void push(int32_t first, int32_t second, int32_t join, int64_t amount) {
    for (int32_t u = first; u != join; u = tree_[u].parent) {
      tree_[u].room_down -= amount;
      tree_[u].room_up += amount;
    }
    for (int32_t v = second; v != join; v = tree_[v].parent) {
      tree_[v].room_up -= amount;
      tree_[v].room_down += amount;
    }
  }

  Graph graph_;
  const Ends* ends_;
  Edges& edges_;
  SpanningTree& tree_;
  Prices prices_;
  int64_t block_;
  int64_t next_row_ = 0, pivots_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
