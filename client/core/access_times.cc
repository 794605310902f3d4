#include "client/core/access_times.h"

#include <algorithm>

#include "common/base/access_time.h"

namespace cairn::client {

namespace {
// How long an access waits for others to go with it.
constexpr Duration kDelay = 1s;
constexpr size_t kBatch = 512;  // a millisecond of the MDS's time
constexpr size_t kMaxNoted = 65'536;
// An unmount waits no longer than this for an MDS that is away.
constexpr Duration kEndPatience = 3s;
}  // namespace

AccessTimes::AccessTimes(Env& env, Event& stop, TaskScope& scope, MdsOps& mds, AccessPolicy policy,
                         Hooks hooks)
    : env_(env),
      stop_(stop),
      scope_(scope),
      mds_(mds),
      policy_(policy),
      hooks_(std::move(hooks)),
      wanted_(env.reactor),
      sent_(env.reactor) {}

// ---- What is noted ----

const int64_t* AccessTimes::find(InodeId ino) const {
  for (const auto* times : {&noted_, &sending_})  // what is noted is later
    if (auto it = times->find(ino); it != times->end()) return &it->second;
  return nullptr;
}

Attr AccessTimes::shown(Attr attr) const {
  if (noted_.empty() && sending_.empty()) return attr;
  if (const int64_t* at = find(attr.ino)) attr.atimeNs = std::max(attr.atimeNs, *at);
  return attr;
}

void AccessTimes::note(InodeId ino, int64_t atNs) {
  auto it = noted_.find(ino);
  if (it == noted_.end()) {
    if (noted_.size() >= kMaxNoted) return;
    it = noted_.emplace(ino, atNs).first;
  }
  it->second = std::max(it->second, atNs);
  wanted_.set();
}

void AccessTimes::read(const Attr& known) {
  if (policy_.when == AccessPolicy::When::kNever) return;
  if (S_ISDIR(known.mode) && !policy_.directories) return;
  const int64_t now = env_.reactor.wallNow();
  const bool always = policy_.when == AccessPolicy::When::kAlways;
  if (accessDue(shown(known).atimeNs, known.mtimeNs, known.ctimeNs, now, always))
    note(known.ino, now);
}

Task<void> AccessTimes::supersede(InodeId ino) {
  noted_.erase(ino);
  while (sending_.contains(ino) && !stop_.isSet()) co_await sent_.wait();
}

void AccessTimes::readElsewhere(const std::vector<InodeId>& inodes) {
  for (InodeId ino : inodes) {
    // Of many readers the first counts.
    if (policy_.when == AccessPolicy::When::kRelative) noted_.erase(ino);
    hooks_.doubted(ino);
  }
}

// ---- Telling ----

// What is noted of `from` and the inodes behind it: a message's worth.
std::vector<AccessTime> AccessTimes::take(InodeId from) {
  std::vector<AccessTime> batch;
  for (auto it = noted_.lower_bound(from); it != noted_.end() && batch.size() < kBatch;) {
    const auto [ino, atNs] = *it;
    if (sending_.contains(ino) || hooks_.unsettled(ino)) {
      ++it;
      continue;
    }
    batch.push_back({ino, atNs});
    sending_.emplace(ino, atNs);
    it = noted_.erase(it);
  }
  return batch;
}

Task<void> AccessTimes::send(std::vector<AccessTime> batch) {
  const bool always = policy_.when == AccessPolicy::When::kAlways;
  // Fails where the session or the mount ends: nobody is told of a lost time of access.
  auto different = co_await mds_.accessed(batch, always);
  for (const auto& [ino, atNs] : batch) {
    sending_.erase(ino);
    if (different && !std::ranges::binary_search(*different, ino))
      hooks_.taken(ino, atNs);
    else
      hooks_.doubted(ino);
  }
  sent_.fire();
}

Task<void> AccessTimes::sendAll() {
  InodeId from;
  while (!stop_.isSet()) {
    auto batch = take(from);
    if (batch.empty()) break;
    from = InodeId{batch.back().ino.value + 1};
    co_await send(std::move(batch));
  }
}

void AccessTimes::hurry(InodeId ino) {
  if (!noted_.contains(ino)) return;
  // Where one lease is recalled, more are about to be: their accesses go along.
  auto batch = take(ino);
  noted_.erase(ino);  // unsettled: whoever changes it does so after what is not known yet
  if (!batch.empty()) scope_.spawn(send(std::move(batch)));
}

Task<void> AccessTimes::run() {
  while (true) {
    co_await wanted_.wait();
    if (stop_.isSet() || co_await stop_.waitFor(kDelay)) co_return;
    wanted_.reset();
    co_await sendAll();
    if (!noted_.empty()) wanted_.set();
  }
}

Task<void> AccessTimes::setWhenSent(AccessTimes& self, std::shared_ptr<Event> sent) {
  co_await self.sendAll();
  while (!self.sending_.empty() && !self.stop_.isSet()) co_await self.sent_.wait();
  sent->set();
}

Task<void> AccessTimes::finish() {
  if (noted_.empty() && sending_.empty()) co_return;
  auto sent = std::make_shared<Event>(env_.reactor);
  scope_.spawn(setWhenSent(*this, sent));
  co_await sent->waitFor(kEndPatience);
}

void AccessTimes::wake() {
  wanted_.set();
  sent_.fire();
}

}  // namespace cairn::client
