// The spanning tree of a network simplex, as thread indices: the nodes in preorder as a circular
// list, so that a subtree is a run of it, and for each node the size and the last node of its run.
// Moving a subtree costs its stem and its ancestors, not its nodes.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace hessx {
namespace HESSX_LEVEL {

// The edge to the parent belongs to the child. Rooms say how much more flow that edge takes towards
// the parent (up) and from it (down) before its cost changes slope.
struct TreeNode {
  int32_t parent, edge;
  int32_t size, last;
  int64_t room_up, room_down;
};

class SpanningTree {
 public:
  static constexpr int64_t bytes(int64_t nodes) {
    return nodes * (sizeof(TreeNode) + 3 * sizeof(int32_t));
  }

  // The storage holds bytes(nodes), aligned for TreeNode.
  SpanningTree(void* storage, int64_t nodes)
      : nodes_(static_cast<TreeNode*>(storage)),
        next_(reinterpret_cast<int32_t*>(nodes_ + nodes)),
        previous_(next_ + nodes),
        order_(previous_ + nodes) {}

  TreeNode& operator[](int32_t v) { return nodes_[v]; }
  const TreeNode& operator[](int32_t v) const { return nodes_[v]; }
  int32_t next(int32_t v) const { return next_[v]; }

  // A new tree: plant the root, attach each node after its parent, then finish.
  void plant(int32_t root) {
    planted_ = 1;
    order_[0] = next_[root] = previous_[root] = root;
    nodes_[root] = {-1, -1, 1, root, 0, 0};
  }

  void attach(int32_t v, int32_t parent, int32_t edge, int64_t room_up, int64_t room_down) {
    order_[planted_++] = v;
    link(v, next_[parent]);
    link(parent, v);
    nodes_[v] = {parent, edge, 1, v, room_up, room_down};
  }

  void finish() {
    for (int32_t i = planted_ - 1; i > 0; --i) {
      const TreeNode& node = nodes_[order_[i]];
      nodes_[node.parent].size += node.size;
      // The child attached first is the last one in preorder, and comes last here.
      nodes_[node.parent].last = node.last;
    }
  }

  // The nodes attached so far, parents before children.
  int32_t planted() const { return planted_; }
  int32_t planted(int32_t i) const { return order_[i]; }

  // Cuts the edge of `out` to its parent, makes `in`, a node below it, the root of what was cut
  // off, and hangs it on `parent` by `edge`. `join` lies above both places.
  void move(int32_t out, int32_t in, int32_t parent, int32_t join, int32_t edge, int64_t room_up,
            int64_t room_down) {
    const int32_t size = nodes_[out].size;
    cut(out, join);
    const int32_t last = reroot(out, in, size);
    TreeNode& node = nodes_[in];
    node.parent = parent;
    node.edge = edge;
    node.room_up = room_up;
    node.room_down = room_down;
    link(last, next_[parent]);
    link(parent, in);
    for (int32_t u = parent; u != join; u = nodes_[u].parent) nodes_[u].size += size;
    for (int32_t u = parent; u >= 0 && nodes_[u].last == parent; u = nodes_[u].parent) {
      nodes_[u].last = last;
    }
  }

 private:
  void link(int32_t before, int32_t after) {
    next_[before] = after;
    previous_[after] = before;
  }

  // Takes the subtree of `out` out of the list and out of its ancestors' sizes and last nodes.
  void cut(int32_t out, int32_t join) {
    const TreeNode& node = nodes_[out];
    const int32_t before = previous_[out], last = node.last;
    link(before, next_[last]);
    for (int32_t u = node.parent; u != join; u = nodes_[u].parent) nodes_[u].size -= node.size;
    for (int32_t u = node.parent; u >= 0 && nodes_[u].last == last; u = nodes_[u].parent) {
      nodes_[u].last = before;
    }
  }

  // Reverses the stem from `in` up to `out`: the new preorder is the run of `in`, then for each
  // next node of the stem its run without that of the one before. Gives the last node.
  int32_t reroot(int32_t out, int32_t in, int32_t size) {
    int32_t last = nodes_[in].last;
    int32_t below = in, below_last = last;
    int32_t before = previous_[in], after = next_[last];
    TreeNode moved = nodes_[in];
    while (below != out) {
      const int32_t stem = moved.parent;
      TreeNode& node = nodes_[stem];
      const TreeNode old = node;
      int32_t end = old.last;
      if (end == below_last) {
        end = before;
      } else {
        link(before, after);
        after = next_[end];
      }
      before = previous_[stem];
      link(last, stem);
      last = end;
      node.parent = below;
      node.edge = moved.edge;
      node.room_up = moved.room_down;
      node.room_down = moved.room_up;
      node.size = size - moved.size;
      below = stem;
      below_last = old.last;
      moved = old;
    }
    for (int32_t u = out; u != in; u = nodes_[u].parent) nodes_[u].last = last;
    nodes_[in].last = last;
    nodes_[in].size = size;
    return last;
  }

  TreeNode* nodes_;
  int32_t *next_, *previous_, *order_;
  int32_t planted_ = 0;
};

}  // namespace HESSX_LEVEL
}  // namespace hessx
