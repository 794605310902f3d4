// A metadata server whose own disk fills up.
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;

TEST_CASE("below the reserve nothing new is made, what frees space goes on") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const Got made = c.create(kRootInode, "file");
  const InodeId file = inoOf(made);
  REQUIRE(c.makeDirectory(kRootInode, "dir").code() == Errc::kOk);

  auto& kv = rig.world.machine("mds").kv;
  auto makes = [&, n = 0]() mutable {
    return c.makeDirectory(kRootInode, "new" + std::to_string(n++)).code();
  };
  kv.faults.capacityBytes = kv.usedBytes() + rig.options.server.reserve - 1;
  const uint64_t last = c.nextSeq;
  REQUIRE(rig.until([&] { return makes() == Errc::kNoSpace; }));
  // What was done before is not refused when it is sent again.
  CHECK(c.mutate(changes::makeDirectory(kRootInode, "dir"), last - 1).code() == Errc::kOk);
  CHECK(c.create(kRootInode, "another").code() == Errc::kNoSpace);
  CHECK(c.mutate(changes::link(file, kRootInode, "link")).code() == Errc::kNoSpace);
  CHECK(c.mutate(changes::setxattr(file, "user.x", "v")).code() == Errc::kNoSpace);
  CHECK(c.allocate(file, 20).code() == Errc::kNoSpace);
  // Reads, and what costs next to nothing, are as always.
  CHECK(c.lookup(kRootInode, "file").code() == Errc::kOk);
  CHECK(c.mutate(changes::chmod(file, 0600)).code() == Errc::kOk);
  CHECK(c.mutate(changes::commit(file, 100)).code() == Errc::kOk);
  CHECK(c.rename(kRootInode, "file", "renamed").code() == Errc::kOk);
  CHECK(c.unlink(kRootInode, "renamed").code() == Errc::kOk);
  const Got status = c.ask([](auto r) { r.setStatus(); });
  std::string problems;
  for (auto p : status.reply().getStatus().getProblems()) problems += p.cStr();
  CHECK_MESSAGE(problems.find("free space there") != std::string::npos, problems);

  kv.faults.capacityBytes.reset();
  CHECK(rig.until([&] { return makes() == Errc::kOk; }));
}
