#include "mds/server/sessions.h"

#include <doctest/doctest.h>

using namespace cairn;
using namespace cairn::mds;

namespace {
constexpr SessionId kA{1}, kB{2};
constexpr InodeId kFile{10}, kOther{11};
const TimePoint kStart{Duration(1h)};
}  // namespace

TEST_CASE("the open table knows holders both ways and forgets a session whole") {
  OpenTable t;
  t.add(kA, kFile);
  t.add(kA, kFile);  // open is not counted: a session has it or not
  t.add(kB, kFile);
  t.add(kA, kOther);
  CHECK(t.holders(kFile) == std::vector{kA, kB});
  CHECK(t.size() == 3);
  t.remove(kA, kFile);
  CHECK_FALSE(t.holds(kA, kFile));
  CHECK(t.holders(kFile) == std::vector{kB});
  t.remove(kA, kFile);
  t.drop(kB);
  CHECK(t.holders(kFile).empty());
  CHECK(t.opensOf(kA) == 1);
  t.drop(kA);
  CHECK(t.size() == 0);
}

TEST_CASE("whoever has not reclaimed may hold anything") {
  Sessions s(10s);
  s.addKnown(kA, kStart);
  s.addNew(kB, kStart, false);
  CHECK(s.unreclaimed() == 1);
  CHECK(s.mayHold(kFile) == std::vector{kA});
  CHECK_FALSE(s.surelyNotHolding(kA, kFile));
  CHECK(s.surelyNotHolding(kB, kFile));
  CHECK(s.mayOpen(kB));
  s.noteOpen(kB, kFile);
  CHECK(s.mayHold(kFile) == std::vector{kA, kB});
  CHECK(s.awaitsOthers(kB));
  CHECK_FALSE(s.awaitsOthers(kA));
  CHECK_FALSE(s.takesLeases(kA));
  s.reclaim(kA, {kOther}, true, false);
  CHECK(s.takesLeases(kA));
  CHECK(s.mayHold(kFile) == std::vector{kA, kB});  // it has not said everything
  s.reclaim(kA, {}, true, true);
  CHECK_FALSE(s.awaitsOthers(kB));
  CHECK(s.mayHold(kFile) == std::vector{kB});
  CHECK(s.mayHold(kOther) == std::vector{kA});
  CHECK(s.surelyNotHolding(kA, kFile));
  s.remove(kA);
  CHECK(s.mayHold(kOther).empty());
  CHECK(s.surelyNotHolding(kA, kOther));
}

TEST_CASE("a session expires when it was not heard, not while we did not listen") {
  Sessions s(10s);
  s.addNew(kA, kStart, true);
  s.addNew(kB, kStart, false);
  CHECK(s.touch(kA, kStart + 8s));
  CHECK(s.expired(kStart + 10s).empty());
  CHECK(s.expired(kStart + 11s) == std::vector{kB});
  s.forgive(5s);
  CHECK(s.expired(kStart + 15s).empty());
  CHECK(s.expired(kStart + 16s) == std::vector{kB});
  s.remove(kB);
  CHECK(s.touch(kB, kStart).error().code == Errc::kSessionExpired);
}
