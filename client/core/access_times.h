// Times of last access: which reads through this mount count, and when the MDS hears of them.
//
// A read never waits for this. What is due is noted, shown from then on by this mount, and told in
// the background, many inodes in one message. What is noted and not told yet keeps nothing alive:
// it is dropped with the session, and beyond kMaxNoted nothing more is noted.
//
// The time of an access stays before whatever the MDS hears of afterwards:
//   - supersede() before this mount sets a time itself;
//   - hurry() before a lease goes back, under which the inode was read: the change for which it is
//     recalled then finds it done;
//   - the access waits while `unsettled`: by the MDS's times it might not be due yet.
//
// One reactor thread; everything it is given outlives it; stop() and the end of run() come before
// destruction.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "client/core/filesystem.h"
#include "client/core/mds_ops.h"
#include "common/reactor/pulse.h"

namespace cairn::client {

class AccessTimes {
 public:
  struct Hooks {
    // Whether the inode has times that the MDS does not know yet.
    std::function<bool(InodeId)> unsettled;
    // The MDS has taken the time over.
    std::function<void(InodeId, int64_t)> taken;
    // What is cached of the inode's time of last access may not be true any more.
    std::function<void(InodeId)> doubted;
  };
  AccessTimes(Env& env, Event& stop, TaskScope& scope, MdsOps& mds, AccessPolicy policy,
              Hooks hooks);
  AccessTimes(const AccessTimes&) = delete;
  AccessTimes& operator=(const AccessTimes&) = delete;

  void follow(AccessPolicy policy) { policy_ = policy; }

  // An inode with these attributes was read; its number, type and times count.
  void read(const Attr& known);

  // As this mount shows it.
  [[nodiscard]] Attr shown(Attr attr) const;

  // The times of the inode are about to be set by an application: its reads are of before. Waits
  // until none is on its way.
  Task<void> supersede(InodeId ino);
  // Its lease is about to go back: what is noted of it is sent now.
  void hurry(InodeId ino);
  // Others have read these.
  void readElsewhere(const std::vector<InodeId>& inodes);
  void sessionLost() { noted_.clear(); }

  // Until `stop`, or for a moment, to tell what is left.
  Task<void> run();
  Task<void> finish();
  // `stop` is set.
  void wake();

 private:
  void note(InodeId ino, int64_t atNs);
  [[nodiscard]] const int64_t* find(InodeId ino) const;
  std::vector<AccessTime> take(InodeId from);
  Task<void> send(std::vector<AccessTime> batch);
  Task<void> sendAll();
  static Task<void> setWhenSent(AccessTimes& self, std::shared_ptr<Event> sent);

  Env& env_;
  Event& stop_;
  TaskScope& scope_;
  MdsOps& mds_;
  AccessPolicy policy_;
  const Hooks hooks_;
  std::map<InodeId, int64_t> noted_;
  std::map<InodeId, int64_t> sending_;
  Event wanted_;
  Pulse sent_;
};

}  // namespace cairn::client
