#include "mds/server/lock_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>

#include "common/reactor/clock.h"

namespace cairn::mds::lock_table_test {

constexpr SessionId kA{1}, kB{2}, kC{3};
constexpr InodeId kFile{10}, kOther{11};
constexpr auto kNone = LockType::kNone, kRead = LockType::kRead, kWrite = LockType::kWrite;
constexpr auto kGranted = LockOutcome::kGranted, kConflict = LockOutcome::kConflict,
               kWaiting = LockOutcome::kWaiting, kDeadlock = LockOutcome::kDeadlock;

FileLock range(SessionId s, LockType type, uint64_t start = 0, uint64_t end = kLastLockByte,
               InodeId ino = kFile, uint64_t owner = 1) {
  return {ino, {s, LockSpace::kRange, owner}, {start, end, type, 100}};
}
FileLock whole(SessionId s, LockType type, uint64_t owner = 1) {
  return {kFile, {s, LockSpace::kFlock, owner}, {0, kLastLockByte, type, 100}};
}
std::vector<uint64_t> waitsOf(const std::vector<LockGrant>& grants) {
  std::vector<uint64_t> out;
  for (const LockGrant& g : grants) out.push_back(g.wait);
  return out;
}
using Ids = std::vector<uint64_t>;

TEST_CASE("locks: readers go together, a writer is alone, spaces and inodes do not meet") {
  LockTable t;
  CHECK(t.set(range(kA, kRead), {}) == kGranted);
  CHECK(t.set(range(kB, kRead, 0, 9), {}) == kGranted);
  CHECK(t.set(range(kB, kWrite, 5, 5), {}) == kConflict);
  CHECK(t.set(range(kA, kWrite, 10, 20), {}) == kGranted);
  CHECK(t.set(whole(kB, kWrite), {}) == kGranted);
  CHECK(t.set(range(kB, kWrite, 0, 9, kOther), {}) == kGranted);
  CHECK(t.set(range(kA, kWrite, 0, 9, kFile, 2), {}) == kConflict);  // another owner of the session
  REQUIRE(t.test(range(kC, kRead)).has_value());
  CHECK(t.test(range(kC, kRead))->piece == LockPiece{10, 20, kWrite, 100});
  CHECK(t.test(range(kC, kWrite))->piece.start == 0);
  CHECK_FALSE(t.test(range(kA, kWrite, 10)).has_value());
}

TEST_CASE("locks: what is refused changes nothing") {
  LockTable t;
  t.set(range(kA, kWrite, 0, 9), {});
  t.set(range(kB, kWrite, 20, 29), {});
  const size_t size = t.size();
  CHECK(t.set(range(kA, kRead, 0, 25), {}) == kConflict);
  CHECK(t.size() == size);
  CHECK(t.set(range(kC, kRead, 0, 0), {}) == kConflict);  // it still writes
}

TEST_CASE("locks: who waits is served in order, readers together") {
  LockTable t;
  t.set(range(kA, kWrite), {});
  CHECK(t.set(range(kB, kRead), 1) == kWaiting);
  CHECK(t.set(range(kC, kWrite), 2) == kWaiting);
  CHECK(t.set(range(kB, kRead, 0, 9, kFile, 2), 3) == kWaiting);
  CHECK(t.waiting() == 3);
  t.set(range(kA, kNone), {});
  CHECK(waitsOf(t.takeGrants()) == Ids{1, 3});
  t.set(range(kB, kNone), {});
  CHECK(t.takeGrants().empty());
  t.set(range(kB, kNone, 0, kLastLockByte, kFile, 2), {});
  CHECK(t.takeGrants() == std::vector<LockGrant>{{kC, 2, t.serial()}});
  CHECK(t.waiting() == 0);
}

TEST_CASE("locks: lowering lets readers in; a part is enough for who wants that part") {
  LockTable t;
  t.set(range(kA, kWrite), {});
  t.set(range(kB, kRead, 0, 9), 1);
  t.set(range(kC, kWrite, 20, 29), 2);
  t.set(range(kA, kRead), {});
  CHECK(waitsOf(t.takeGrants()) == Ids{1});
  t.set(range(kA, kNone, 20, 25), {});
  CHECK(t.takeGrants().empty());
  t.set(range(kA, kNone, 26, 29), {});
  CHECK(waitsOf(t.takeGrants()) == Ids{2});
}

TEST_CASE("locks: a wait that is canceled is granted nothing and changes nothing") {
  LockTable t;
  t.set(range(kA, kRead), {});
  t.set(range(kB, kRead), {});
  CHECK(t.set(range(kA, kWrite, 3, 4), 1) == kWaiting);
  CHECK(t.cancel(kA, 1));
  CHECK_FALSE(t.cancel(kA, 1));
  t.set(range(kB, kNone), {});
  CHECK(t.takeGrants().empty());
  CHECK(t.set(range(kC, kRead), {}) == kGranted);  // kA reads, as before
  CHECK(t.set(range(kC, kWrite), {}) == kConflict);
}

TEST_CASE("locks: a circle of waits is refused, over owners, sessions and inodes") {
  LockTable t;
  t.set(range(kA, kWrite, 0, 0), {});
  t.set(range(kB, kWrite, 0, 0, kOther), {});
  t.set(range(kC, kRead, 1, 1), {});
  t.set(range(kC, kRead, 1, 1, kFile, 2), {});
  CHECK(t.set(range(kA, kWrite, 0, 0, kOther), 1) == kWaiting);
  CHECK(t.set(range(kC, kRead, 0, 0), 1) == kWaiting);
  CHECK(t.set(range(kB, kRead, 0, 0), 1) == kDeadlock);
  CHECK(t.set(range(kB, kWrite, 1, 1), 2) == kDeadlock);  // through one of the two who read
  CHECK(t.set(range(kB, kRead, 1, 1), 3) == kGranted);
  CHECK(t.set(range(kB, kRead, 0, 0), {}) == kConflict);  // who does not wait is in no circle
  // The circle is broken when one of its waits ends.
  CHECK(t.cancel(kA, 1));
  CHECK(t.set(range(kB, kRead, 0, 0), 4) == kWaiting);
}

TEST_CASE("locks: two that raise from reading to writing are a circle") {
  LockTable t;
  t.set(range(kA, kRead), {});
  t.set(range(kB, kRead), {});
  CHECK(t.set(range(kA, kWrite), 1) == kWaiting);
  CHECK(t.set(range(kB, kWrite), 1) == kDeadlock);
}

TEST_CASE("flock: converting gives the old lock up first, whatever comes of it") {
  LockTable t;
  t.set(whole(kA, kRead), {});
  t.set(whole(kB, kRead), {});
  CHECK(t.set(whole(kA, kWrite), 1) == kWaiting);
  CHECK(t.size() == 1);
  // No circle: the second gives up its own, and has the new one before those who wait are looked
  // at.
  CHECK(t.set(whole(kB, kWrite), 1) == kGranted);
  CHECK(t.takeGrants().empty());
  CHECK(t.set(whole(kC, kRead), {}) == kConflict);
  t.set(whole(kB, kNone), {});
  CHECK(t.takeGrants() == std::vector<LockGrant>{{kA, 1, t.serial()}});
  CHECK(t.set(whole(kA, kNone), {}) == kGranted);
  t.set(whole(kB, kRead), {});
  t.set(whole(kC, kRead), {});
  CHECK(t.set(whole(kB, kWrite), {}) == kConflict);
  CHECK(t.set(whole(kA, kRead), {}) == kGranted);
  CHECK(t.size() == 2);  // kB's went
  CHECK(t.set(whole(kC, kRead), {}) == kGranted);
}

TEST_CASE("locks: a session is replaced as a whole, waits and all") {
  LockTable t;
  t.set(range(kA, kWrite, 0, 9), {});
  t.set(whole(kA, kWrite), {});
  t.set(range(kB, kWrite, 5, 5), 7);
  t.set(range(kB, kWrite, 9, 9), 8);
  t.set(whole(kC, kRead), 9);
  CHECK(t.replace(kA, {range(kA, kWrite, 7, 12)}));
  CHECK(waitsOf(t.takeGrants()) == Ids{9, 7});
  CHECK(t.replace(kB, {range(kB, kWrite, 5, 5)}));
  CHECK(t.waiting() == 0);
  CHECK_FALSE(t.replace(kC, {range(kC, kRead, 0, 5), whole(kC, kRead)}));
  CHECK(t.heldBy(kC) == 1);
  t.dropSession(kA);
  t.dropSession(kB);
  t.dropSession(kC);
  CHECK(t.size() == 0);
  CHECK_FALSE(t.anyOn(kFile));
}

TEST_CASE("locks: an inode that is gone has none, and nobody waits for it") {
  LockTable t;
  t.set(range(kA, kWrite), {});
  t.set(range(kB, kWrite), 1);
  t.set(range(kC, kWrite), 2);
  t.set(whole(kC, kWrite), {});
  t.set(range(kA, kRead, 0, 0, kOther), {});
  t.dropInode(kFile);
  CHECK(waitsOf(t.takeGrants()) == Ids{1, 2});
  CHECK_FALSE(t.anyOn(kFile));
  CHECK(t.size() == 1);
}

TEST_CASE("locks: there are limits, and what makes less is never refused by them") {
  LockTable t;
  uint64_t at = 0;
  while (t.set(range(kA, kWrite, at, at), {}) == kGranted) at += 2;
  CHECK(t.size() + 2 > LockTable::kMaxPerFile);
  CHECK(t.set(range(kA, kRead, 1000, 1000), {}) == LockOutcome::kTooMany);
  CHECK(t.set(range(kA, kNone, 0, 100), {}) == kGranted);
  CHECK(t.set(range(kA, kWrite, 1'000'000, 1'000'100), {}) == kGranted);
  while (t.set(range(kA, kWrite, at, at), {}) == kGranted) at += 2;
  CHECK(t.set(range(kA, kNone, 1'000'050, 1'000'050), {}) == LockOutcome::kTooMany);  // a split
  CHECK(t.set(range(kA, kNone), {}) == kGranted);
  CHECK(t.size() == 0);
}

// ---- Random work, against locks of single bytes ----

struct Model {
  static constexpr uint64_t kBytes = 12;
  using Byte = std::map<LockOwner, LockType>;
  using Key = std::pair<InodeId, LockSpace>;
  std::map<Key, std::array<Byte, kBytes>> held;
  struct Wait {
    FileLock lock;
    uint64_t id;
  };
  std::vector<Wait> waits;  // in order
  std::vector<LockGrant> grants;

  static Key keyOf(const FileLock& l) { return {l.ino, l.owner.space}; }
  static uint64_t last(const FileLock& l) { return std::min(l.piece.end, kBytes - 1); }
  std::set<LockOwner> inTheWay(const FileLock& l) {
    std::set<LockOwner> out;
    for (uint64_t b = l.piece.start; b <= last(l); ++b)
      for (auto& [owner, type] : held[keyOf(l)][b])
        if (owner != l.owner && l.piece.type != kNone && (type == kWrite || l.piece.type == kWrite))
          out.insert(owner);
    return out;
  }
  void apply(const FileLock& l) {
    for (uint64_t b = l.piece.start; b <= last(l); ++b) {
      auto& byte = held[keyOf(l)][b];
      byte.erase(l.owner);
      if (l.piece.type != kNone) byte[l.owner] = l.piece.type;
    }
  }
  void settle(const Key& key) {
    for (bool again = true; again;) {
      again = false;
      for (size_t i = 0; i < waits.size();) {
        if (keyOf(waits[i].lock) != key || !inTheWay(waits[i].lock).empty()) {
          ++i;
          continue;
        }
        apply(waits[i].lock);
        grants.push_back({waits[i].lock.owner.session, waits[i].id, 0});
        waits.erase(waits.begin() + static_cast<ptrdiff_t>(i));
        again = true;
      }
    }
  }
  bool reaches(const LockOwner& from, const LockOwner& to, std::set<LockOwner>& seen) {
    if (from == to) return true;
    if (!seen.insert(from).second) return false;
    return std::any_of(waits.begin(), waits.end(), [&](const Wait& w) {
      if (w.lock.owner != from) return false;
      const auto blockers = inTheWay(w.lock);
      return std::any_of(blockers.begin(), blockers.end(),
                         [&](const LockOwner& o) { return reaches(o, to, seen); });
    });
  }
  LockOutcome set(const FileLock& l, std::optional<uint64_t> wait) {
    const LockOutcome outcome = [&] {
      auto& first = held[keyOf(l)][0];
      if (l.owner.space == LockSpace::kFlock && first.contains(l.owner)) {
        if (first.at(l.owner) == l.piece.type) return kGranted;
        FileLock old = l;
        old.piece.type = kNone;
        apply(old);
      }
      const auto blockers = inTheWay(l);
      if (blockers.empty()) {
        apply(l);
        return kGranted;
      }
      if (!wait) return kConflict;
      std::set<LockOwner> seen;
      if (l.owner.space == LockSpace::kRange)
        for (const LockOwner& b : blockers)
          if (reaches(b, l.owner, seen)) return kDeadlock;
      waits.push_back({l, *wait});
      return kWaiting;
    }();
    settle(keyOf(l));
    return outcome;
  }
  void drop(SessionId session) {
    std::erase_if(waits, [&](auto& w) { return w.lock.owner.session == session; });
    for (auto& [key, bytes] : held)
      for (auto& byte : bytes)
        std::erase_if(byte, [&](auto& o) { return o.first.session == session; });
    for (auto& [key, bytes] : held) settle(key);
  }
  size_t pieces() {
    size_t n = 0;
    for (auto& [key, bytes] : held)
      for (uint64_t b = 0; b < kBytes; ++b)
        for (auto& [owner, type] : bytes[b]) {
          const auto before = b == 0 ? Byte{} : bytes[b - 1];
          auto it = before.find(owner);
          n += it == before.end() || it->second != type ? 1 : 0;
        }
    return n;
  }
};

FileLock anyLock(SeededRandom& random) {
  FileLock l;
  l.ino = random.chance(1, 2) ? kFile : kOther;
  l.owner = {SessionId{1 + random.below(3)},
             random.chance(1, 4) ? LockSpace::kFlock : LockSpace::kRange, 1 + random.below(2)};
  l.piece.type = static_cast<LockType>(random.below(3));
  if (l.owner.space == LockSpace::kRange) {
    l.piece.start = random.below(Model::kBytes);
    l.piece.end = l.piece.start + random.below(random.chance(3, 4) ? 4 : Model::kBytes);
    l.piece.end = std::min(l.piece.end, Model::kBytes - 1);
  }
  return l;
}

// Who holds which byte, seen through tests by somebody who holds nothing.
void compare(const LockTable& table, Model& model) {
  for (auto& [key, bytes] : model.held)
    for (uint64_t b = 0; b < Model::kBytes; ++b)
      for (LockType type : {kRead, kWrite}) {
        const FileLock probe{key.first, {SessionId{99}, key.second, 1}, {b, b, type, 0}};
        std::set<SessionId> sessions;
        for (const LockOwner& o : model.inTheWay(probe)) sessions.insert(o.session);
        REQUIRE(table.inTheWay(probe) == sessions);
        for (auto& [owner, held] : bytes[b]) {
          const FileLock own{key.first, owner, {b, b, type, 0}};
          REQUIRE(table.test(own).has_value() == !model.inTheWay(own).empty());
        }
      }
  REQUIRE(table.size() == model.pieces());
  REQUIRE(table.waiting() == model.waits.size());
  for (SessionId s : {kA, kB, kC}) {
    const bool blocks = std::any_of(model.waits.begin(), model.waits.end(), [&](const auto& w) {
      const auto owners = model.inTheWay(w.lock);
      return w.lock.owner.session != s &&
             std::any_of(owners.begin(), owners.end(), [&](auto& o) { return o.session == s; });
    });
    REQUIRE(table.blocksOthers(s) == blocks);
  }
}

TEST_CASE("locks: the same as locks of single bytes") {
  std::map<LockOutcome, int> seen;
  int granted = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    INFO("seed " << seed);
    SeededRandom random(seed);
    LockTable table;
    Model model;
    uint64_t next = 1;
    for (int i = 0; i < 120; ++i) {
      const uint64_t what = random.below(20);
      if (what == 0) {
        const SessionId s{1 + random.below(3)};
        table.dropSession(s);
        model.drop(s);
      } else if (what < 3 && !model.waits.empty()) {
        const auto at =
            model.waits.begin() + static_cast<ptrdiff_t>(random.below(model.waits.size()));
        REQUIRE(table.cancel(at->lock.owner.session, at->id));
        model.waits.erase(at);
      } else {
        const FileLock l = anyLock(random);
        std::optional<uint64_t> wait;
        if (l.piece.type != kNone && random.chance(1, 2)) wait = next++;
        const LockOutcome outcome = table.set(l, wait);
        REQUIRE(outcome == model.set(l, wait));
        ++seen[outcome];
      }
      auto grants = table.takeGrants();
      for (size_t g = 0; g < grants.size(); ++g) {
        if (g > 0) REQUIRE(grants[g - 1].serial < grants[g].serial);
        grants[g].serial = 0;
      }
      granted += static_cast<int>(grants.size());
      // Over several inodes the order is nobody's business.
      auto byWait = [](const LockGrant& a, const LockGrant& b) { return a.wait < b.wait; };
      auto expected = std::exchange(model.grants, {});
      if (what == 0) {
        std::sort(grants.begin(), grants.end(), byWait);
        std::sort(expected.begin(), expected.end(), byWait);
      }
      REQUIRE(grants == expected);
      compare(table, model);
    }
  }
  for (LockOutcome o : {kGranted, kConflict, kWaiting, kDeadlock}) CHECK(seen[o] > 100);
  CHECK(granted > 100);
}

}  // namespace cairn::mds::lock_table_test
