#include "mds/server/claims.h"

#include <doctest/doctest.h>

#include <list>

#include "common/reactor/clock.h"

namespace cairn::mds::claims_test {

constexpr InodeId kFile{10};
constexpr SessionId kA{1}, kB{2}, kC{3};
constexpr auto kChange = ClaimKind::kChange, kAcquire = ClaimKind::kAcquireWrite;

struct OneInode {
  Claims claims;
  std::list<Claims::Entry> entries;

  Claims::Entry& add(SessionId session, ClaimKind kind) {
    Claims::Entry& e = entries.emplace_back();
    e.ino = kFile;
    e.session = session;
    e.kind = kind;
    claims.add(e);
    return e;
  }
  // How many were admitted by it.
  int remove(Claims::Entry& e) {
    int admitted = 0;
    claims.remove(e, [&](Claims::Entry& next) {
      CHECK(next.admitted);
      ++admitted;
    });
    entries.remove_if([&](auto& x) { return &x == &e; });
    return admitted;
  }
};

bool goTogether(const Claims::Entry& a, const Claims::Entry& b) {
  return a.session == b.session || (a.kind == kChange && b.kind == kChange);
}

TEST_CASE("changes go side by side, whoever acquires goes alone, and nobody overtakes") {
  OneInode q;
  auto& first = q.add(kA, kChange);
  auto& second = q.add(kB, kChange);
  auto& acquire = q.add(kC, kAcquire);
  auto& late = q.add(kA, kChange);
  CHECK(first.admitted);
  CHECK(second.admitted);
  CHECK_FALSE(acquire.admitted);
  CHECK_FALSE(late.admitted);  // it would go with those that run, and keep `acquire` waiting
  CHECK(q.claims.foreign(kFile, kA));
  CHECK(q.remove(first) == 0);
  CHECK(q.remove(second) == 1);
  CHECK(acquire.admitted);
  auto& own = q.add(kC, kChange);
  CHECK(own.admitted);  // with what runs, and nobody is kept waiting by it
  CHECK(q.remove(acquire) == 1);
  CHECK(late.admitted);
  q.remove(late);
  CHECK_FALSE(q.claims.foreign(kFile, kC));
  q.remove(own);
  CHECK(q.claims.size() == 0);
}

TEST_CASE("a session does not stand in its own way") {
  OneInode q;
  auto& a = q.add(kA, kAcquire);
  auto& b = q.add(kA, kChange);
  auto& c = q.add(kA, ClaimKind::kAcquireRead);
  CHECK(a.admitted);
  CHECK(b.admitted);
  CHECK(c.admitted);
  q.remove(b);
  q.remove(a);
  q.remove(c);
}

TEST_CASE("a claim is admitted when it goes with all before it, and not sooner") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    OneInode q;
    for (int step = 0; step < 400; ++step) {
      if (q.entries.empty() || random.below(2) == 0) {
        q.add(SessionId{1 + random.below(3)}, static_cast<ClaimKind>(random.below(3)));
      } else {
        auto it = q.entries.begin();
        std::advance(it, static_cast<ptrdiff_t>(random.below(q.entries.size())));
        q.remove(*it);
      }
      for (auto e = q.entries.begin(); e != q.entries.end(); ++e) {
        bool free = true;
        for (auto before = q.entries.begin(); before != e; ++before)
          free = free && goTogether(*before, *e);
        CHECK(e->admitted == free);
      }
      REQUIRE(q.claims.size() == q.entries.size());
    }
    while (!q.entries.empty()) q.remove(q.entries.front());
  }
}

}  // namespace cairn::mds::claims_test
