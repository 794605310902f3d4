#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("sessionOpen: every session has a number of its own and is remembered") {
  Mds mds;
  auto s = mds.session(), t = mds.session();
  CHECK(s != 0);
  CHECK(t > s);
  CHECK(mds.endSession(t).ok());
  mds.reopen();
  auto sessions = mds->sessions();
  REQUIRE(sessions.size() == 1);
  CHECK(sessions[0].id == SessionId(s));
  CHECK(sessions[0].addr == "10.0.0.9:1");
  CHECK(sessions[0].mount == "/mnt");
  CHECK(sessions[0].host == "client");
  CHECK(sessions[0].pid == 42);
  CHECK(mds.session() > t);
}

TEST_CASE("sessionOpen: unreasonable texts are refused") {
  Mds mds;
  auto a = mds.run([](auto m) { m.initSessionOpen().setMount(std::string(100'000, 'x')); });
  CHECK(a.code() == Errc::kInvalid);
  CHECK(mds->sessions().empty());
}
