#include "history.h"

namespace emulator {

Stamp Users::unordered(const Observer& me, const LaneClocks& clocks) const {
  if (earlier_.epoch != 0) return earlier_;
  if (latest_.epoch == 0) return {};
  if (latest_.epoch < me.stamp.epoch || extent_ == Extent::thread) {
    return me.is_after(latest_) ? Stamp{} : latest_;
  }
  const int warp = latest_.thread / LANES;
  if (warp != me.stamp.thread / LANES) return latest_;
  if (extent_ == Extent::block) return elsewhere_;
  for (int lane = 0; lane < LANES; ++lane) {
    const Stamp other = {latest_.epoch, warp * LANES + lane, clocks[clocks_][lane], latest_.code};
    if (other.clock != 0 && !me.is_after(other)) return other;
  }
  return {};
}

void Users::add(const Observer& me, LaneClocks& clocks) {
  if (latest_.epoch != me.stamp.epoch) {
    if (latest_.epoch != 0 && latest_.epoch < me.first_epoch) earlier_ = latest_;
    latest_ = me.stamp;
    extent_ = Extent::thread;
    return;
  }
  if (extent_ == Extent::block) return;
  if (latest_.thread / LANES != me.stamp.thread / LANES) {
    elsewhere_ = me.stamp;
    extent_ = Extent::block;
    return;
  }
  if (extent_ == Extent::thread && latest_.thread != me.stamp.thread) {
    if (clocks_ < 0) {
      clocks_ = static_cast<int32_t>(clocks.size());
      clocks.emplace_back();
    }
    clocks[clocks_].fill(0);
    clocks[clocks_][latest_.thread % LANES] = latest_.clock;
    extent_ = Extent::warp;
  }
  if (extent_ == Extent::warp) clocks[clocks_][me.stamp.thread % LANES] = me.stamp.clock;
}

Users Users::copy(LaneClocks& clocks) const {
  Users users = *this;
  if (clocks_ >= 0) {
    users.clocks_ = static_cast<int32_t>(clocks.size());
    clocks.push_back(clocks[clocks_]);
  }
  return users;
}

Stamp Cell::use(AccessKind kind, const Observer& me, LaneClocks& clocks) {
  if (write.epoch != 0 && !me.is_after(write)) return write;
  if (kind != AccessKind::read) {
    if (const Stamp other = reads.unordered(me, clocks); other.epoch != 0) return other;
  }
  if (kind != AccessKind::atomic) {
    if (const Stamp other = atomics.unordered(me, clocks); other.epoch != 0) return other;
  }
  switch (kind) {
    case AccessKind::read: reads.add(me, clocks); break;
    case AccessKind::atomic: atomics.add(me, clocks); break;
    case AccessKind::write:
      write = me.stamp;
      reads.clear();
      atomics.clear();
      break;
  }
  if (kind != AccessKind::read) written = true;
  return {};
}

}  // namespace emulator
