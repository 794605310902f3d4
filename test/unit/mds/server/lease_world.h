// Three clients of one MDS and a file that they share: what the tests of leases begin with.
#pragma once

#include "test/unit/mds/server/lease_client.h"

namespace cairn::mds::test {

// A file in a directory of its own, and clients that hold nothing.
struct LeaseWorld {
  explicit LeaseWorld(uint64_t seed = 1)
      : rig(seed), a(rig.world, "a"), b(rig.world, "b"), c(rig.world, "c") {
    rig.startOsds(3);
    for (LeaseClient* client : {&a, &b, &c}) REQUIRE(client->openSession().code() == Errc::kOk);
    dir = inoOf(c.makeDirectory(kRootInode, "dir"));
    other = inoOf(c.makeDirectory(kRootInode, "other"));
    file = inoOf(c.create(dir, "file"));
    REQUIRE(c.mutate(changes::setxattr(file, "user.x", "1")).code() == Errc::kOk);
    REQUIRE(c.release(file).code() == Errc::kOk);
    for (InodeId ino : {kRootInode, dir, other, file}) (void)c.giveBack(ino);
    REQUIRE(table().size() == 0);
  }
  [[nodiscard]] const LeaseTable& table() { return rig.mds->server().leases().table(); }
  [[nodiscard]] LeaseMode held(const LeaseClient& client, InodeId ino) {
    return table().held(SessionId{client.session}, ino);
  }
  bool answered(const Client::Slot& slot, Duration limit = 300ms) {
    return rig.until([&] { return slot->has_value(); }, limit);
  }

  Rig rig;
  LeaseClient a, b, c;
  InodeId dir, other, file;
};

inline schema::Lease leaseIn(const Got& got) {
  auto reply = got.reply();
  return reply.isEntry() ? reply.getEntry().getAttr().getLease() : reply.getAttr().getLease();
}

}  // namespace cairn::mds::test
