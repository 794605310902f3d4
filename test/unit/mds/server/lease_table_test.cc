#include "mds/server/lease_table.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "common/base/units.h"
#include "common/reactor/clock.h"

namespace cairn::mds::lease_table_test {

constexpr SessionId kA{1}, kB{2}, kC{3};
constexpr InodeId kFile{10}, kOther{11};
constexpr auto kNone = LeaseMode::kNone, kRead = LeaseMode::kRead, kWrite = LeaseMode::kWrite;
const TimePoint kStart{Duration(1h)};

// The same, said as plainly as can be.
struct Model {
  struct Lease {
    LeaseMode mode, keep;
    uint64_t serial;
    TimePoint since;
    [[nodiscard]] bool owed() const { return keep < mode; }
  };
  std::map<std::pair<InodeId, SessionId>, Lease> leases;

  [[nodiscard]] LeaseMode held(SessionId s, InodeId i) const {
    auto it = leases.find({i, s});
    return it == leases.end() ? kNone : it->second.mode;
  }
  [[nodiscard]] bool othersHoldMore(InodeId i, SessionId s, LeaseMode keep) const {
    return std::any_of(leases.begin(), leases.end(), [&](auto& l) {
      return l.first.first == i && l.first.second != s && l.second.mode > keep;
    });
  }
  void grant(SessionId s, InodeId i, LeaseMode mode, uint64_t serial) {
    leases[{i, s}] = {mode, mode, serial, {}};
  }
  std::vector<Recall> recall(InodeId i, SessionId except, LeaseMode keep, TimePoint now) {
    std::vector<Recall> out;
    for (auto& [at, l] : leases) {
      if (at.first != i || at.second == except || l.keep <= keep) continue;
      if (!l.owed()) l.since = now;
      l.keep = keep;
      out.push_back({at.second, i, l.serial, keep});
    }
    return out;
  }
  LeaseTable::GivenBack giveBack(SessionId s, InodeId i, uint64_t serial, LeaseMode keep,
                                 TimePoint now) {
    LeaseTable::GivenBack out;
    auto it = leases.find({i, s});
    if (it == leases.end() || serial < it->second.serial) return out;
    Lease& l = it->second;
    const bool owed = l.owed();
    out.less = keep < l.mode;
    if (owed && keep <= l.keep) out.recalledAt = l.since;
    if (keep == kNone) {
      leases.erase(it);
      return out;
    }
    l.mode = std::min(l.mode, keep);
    if (out.recalledAt)
      l.keep = l.mode;
    else
      l.keep = std::min(l.keep, l.mode);
    if (owed && out.less && !out.recalledAt) l.since = now;
    return out;
  }
  std::vector<Recall> owedBy(SessionId s) const {
    std::vector<Recall> out;
    for (auto& [at, l] : leases)
      if (at.second == s && l.owed()) out.push_back({s, at.first, l.serial, l.keep});
    return out;
  }
};

template <class T>
std::vector<T> sorted(std::vector<T> v) {
  std::sort(v.begin(), v.end());
  return v;
}

TEST_CASE("a recall is told once for each level, and answered by giving back enough") {
  LeaseTable t;
  t.grant(kA, kFile, kWrite, 5);
  CHECK(t.held(kA, kFile) == kWrite);
  CHECK(t.recall(kFile, kA, kNone, kStart).empty());  // its own
  CHECK(t.recall(kFile, kB, kRead, kStart) == std::vector{Recall{kA, kFile, 5, kRead}});
  CHECK(t.recall(kFile, kC, kRead, kStart).empty());
  CHECK(t.recall(kFile, kC, kNone, kStart + 1s) == std::vector{Recall{kA, kFile, 5, kNone}});
  CHECK(t.debtors().front().since == kStart);
  // The answer to the first of the two.
  auto given = t.giveBack(kA, kFile, 5, kRead, kStart + 2s);
  CHECK(given.less);
  CHECK_FALSE(given.recalledAt);
  CHECK(t.held(kA, kFile) == kRead);
  CHECK(t.owedBy(kA) == std::vector{Recall{kA, kFile, 5, kNone}});
  CHECK(t.debtors().front().since == kStart + 2s);
  given = t.giveBack(kA, kFile, 5, kNone, kStart + 3s);
  CHECK(given.less);
  CHECK(given.recalledAt == kStart + 2s);
  CHECK(t.debtors().empty());
  CHECK(t.size() == 0);
}

TEST_CASE("what was granted again is not given back by an older return") {
  LeaseTable t;
  t.grant(kA, kFile, kRead, 5);
  (void)t.recall(kFile, kB, kNone, kStart);
  t.grant(kA, kFile, kRead, 9);  // whoever wanted it went away
  CHECK(t.debtors().empty());
  CHECK_FALSE(t.giveBack(kA, kFile, 5, kNone, kStart).less);
  CHECK(t.held(kA, kFile) == kRead);
  CHECK(t.recall(kFile, kB, kNone, kStart) == std::vector{Recall{kA, kFile, 9, kNone}});
  CHECK(t.giveBack(kA, kFile, 9, kNone, kStart).recalledAt);
  CHECK_FALSE(t.giveBack(kA, kFile, 9, kNone, kStart).less);  // once more
}

TEST_CASE("after a reclaim only what was listed is held, and recalls stay unanswered") {
  LeaseTable t;
  t.grant(kA, kFile, kWrite, 5);
  t.grant(kA, kOther, kRead, 6);
  t.grant(kB, kOther, kRead, 7);
  (void)t.recall(kFile, kB, kNone, kStart);
  CHECK_FALSE(t.renew(kA, kFile, kWrite, 20, kStart + 1s));
  CHECK_FALSE(t.renew(kA, InodeId{99}, kRead, 20, kStart));
  CHECK(t.dropOlder(kA, 20) == std::vector{kOther});
  CHECK(t.held(kB, kOther) == kRead);
  CHECK(t.owedBy(kA) == std::vector{Recall{kA, kFile, 20, kNone}});
  CHECK(t.renew(kA, kFile, kRead, 21, kStart + 2s));  // less than we thought
  CHECK(t.held(kA, kFile) == kRead);
  CHECK(t.dropSession(kA) == std::vector{kFile});
  CHECK(t.debtors().empty());
  CHECK(t.dropInode(kOther));
  CHECK_FALSE(t.dropInode(kOther));
  CHECK(t.size() == 0);
}

TEST_CASE("whatever happens, the table says what a plain model says") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    LeaseTable t;
    Model m;
    TimePoint now = kStart;
    uint64_t serial = 0;
    for (int step = 0; step < 3000; ++step) {
      now += Duration(1ms);
      const SessionId s{1 + random.below(5)};
      const InodeId i{1 + random.below(8)};
      const auto level = static_cast<LeaseMode>(random.below(2));
      switch (random.below(12)) {
        case 0:
        case 1:
        case 2:
        case 3: {
          const auto mode = random.below(3) == 0 ? kWrite : kRead;
          if (m.othersHoldMore(i, s, mode == kWrite ? kNone : kRead)) break;
          t.grant(s, i, mode, ++serial);
          m.grant(s, i, mode, serial);
          break;
        }
        case 4:
        case 5:
        case 6:
          CHECK(sorted(t.recall(i, s, level, now)) == sorted(m.recall(i, s, level, now)));
          break;
        case 7:
        case 8:
        case 9: {
          const uint64_t seen = serial - std::min(serial, random.below(6) * random.below(6));
          const auto a = t.giveBack(s, i, seen, level, now), b = m.giveBack(s, i, seen, level, now);
          CHECK(a.less == b.less);
          CHECK(a.recalledAt == b.recalledAt);
          break;
        }
        case 10: {
          const auto owed = m.owedBy(s);
          std::vector<InodeId> dropped;
          const uint64_t bound = serial - std::min(serial, random.below(20));
          std::erase_if(m.leases, [&](auto& l) {
            if (l.first.second != s || l.second.serial >= bound) return false;
            dropped.push_back(l.first.first);
            return true;
          });
          CHECK(sorted(t.dropOlder(s, bound)) == dropped);
          break;
        }
        default:
          if (random.below(4) == 0) {
            CHECK(t.dropSession(s).size() ==
                  std::erase_if(m.leases, [&](auto& l) { return l.first.second == s; }));
          } else if (random.below(4) == 0) {
            const size_t n = std::erase_if(m.leases, [&](auto& l) { return l.first.first == i; });
            CHECK(t.dropInode(i) == (n > 0));
          }
          break;
      }
      REQUIRE(t.size() == m.leases.size());
      CHECK(t.held(s, i) == m.held(s, i));
      for (auto keep : {kNone, kRead})
        CHECK(t.othersHoldMore(i, s, keep) == m.othersHoldMore(i, s, keep));
      CHECK(t.owedBy(s) == m.owedBy(s));
      CHECK(t.heldBy(s) ==
            static_cast<size_t>(std::count_if(m.leases.begin(), m.leases.end(),
                                              [&](auto& l) { return l.first.second == s; })));
      for (const auto& debtor : t.debtors()) {
        TimePoint since = TimePoint::max();
        for (auto& [at, l] : m.leases)
          if (at.second == debtor.session && l.owed()) since = std::min(since, l.since);
        CHECK(debtor.since == since);
      }
    }
  }
}

}  // namespace cairn::mds::lease_table_test
