// Queries and their limits.
#include "mds/server/admission.h"
#include "test/unit/mds/server/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::test;

namespace {

Got readdir(Client& c, uint64_t cookie, uint32_t limit, bool plus) {
  return c.ask([&](auto r) {
    auto d = r.initReaddir();
    d.setIno(kRootInode.value);
    d.setCookie(cookie);
    d.setLimit(limit);
    d.setPlus(plus);
  });
}

Got resolve(Client& c, const std::string& path) {
  return c.ask([&](auto r) { r.setResolve(path.c_str()); });
}

}  // namespace

TEST_CASE("readdir gives every name once, whatever the page size, and within a reply's limits") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  std::set<std::string> names{".", ".."};
  for (int i = 0; i < 300; ++i) {
    const std::string name = "n" + std::to_string(i) + std::string(200, 'x');
    names.insert(name);
    REQUIRE(c.makeDirectory(kRootInode, name).code() == Errc::kOk);
  }
  for (uint32_t limit : {1u, 7u, 300u, 100'000u}) {
    for (bool plus : {false, true}) {
      std::multiset<std::string> seen;
      uint64_t cookie = 0;
      size_t pages = 0;
      for (bool end = false; !end; ++pages) {
        auto got = readdir(c, cookie, limit, plus);
        auto page = got.reply().getReaddir();
        CHECK(page.totalSize().wordCount * 8 <= kMaxReplyBytes + 4096);
        for (auto e : page.getEntries()) {
          seen.emplace(e.getName().asChars().begin(), e.getName().size());
          cookie = e.getCookie();
          if (plus) CHECK(e.getAttr().getIno() == e.getIno());
        }
        end = page.getEnd() || page.getEntries().size() == 0;
      }
      CHECK(seen == std::multiset<std::string>(names.begin(), names.end()));
      if (limit > 300) CHECK(pages == 1);
    }
  }
}

TEST_CASE("a path resolves to its entry, and says what is wrong with it") {
  Rig rig;
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const InodeId d = inoOf(c.makeDirectory(kRootInode, "d"));
  const InodeId e = inoOf(c.makeDirectory(d, "e"));
  auto link = c.mutate([&](auto m) {
    auto make = m.initMake();
    make.setParent(d.value);
    make.setName({reinterpret_cast<const kj::byte*>("l"), 1});
    make.setMode(0120777);
    make.setTarget({reinterpret_cast<const kj::byte*>("e"), 1});
  });
  CHECK(inoOf(resolve(c, "/")) == kRootInode);
  CHECK(inoOf(resolve(c, "/d/e")) == e);
  CHECK(inoOf(resolve(c, "//d///e/")) == e);
  CHECK(inoOf(resolve(c, "/d/./e/..")) == d);
  CHECK(inoOf(resolve(c, "/d/l")) == inoOf(link));
  CHECK(resolve(c, "/d/l/x").code() == Errc::kNotDirectory);
  CHECK(resolve(c, "/d/l/").code() == Errc::kNotDirectory);
  CHECK(resolve(c, "/nope/e").code() == Errc::kNotFound);
  CHECK(resolve(c, "d").code() == Errc::kInvalid);
  CHECK(resolve(c, "").code() == Errc::kInvalid);
  CHECK(resolve(c, "/" + std::string(300, 'x')).code() == Errc::kNameTooLong);
  CHECK(resolve(c, std::string(5000, '/')).code() == Errc::kNameTooLong);
  auto target = c.ask([&](auto r) { r.setReadlink(inoOf(link).value); });
  CHECK(target.reply().getData().size() == 1);
  CHECK(c.ask([&](auto r) { r.setReadlink(d.value); }).code() == Errc::kInvalid);
}

TEST_CASE("open gives the first sixteen chunks, chunks the others") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world);
  REQUIRE(c.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(c.create(kRootInode, "f"));
  REQUIRE(c.allocate(ino, 40).code() == Errc::kOk);
  auto opened = c.open(ino);
  REQUIRE(opened.reply().getEntry().getChunks().size() == 16);
  CHECK(opened.reply().getEntry().getChunks()[15].getIndex() == 15);
  auto chunks = [&](uint32_t first, uint32_t count) {
    return c.ask([&](auto r) {
      auto q = r.initChunks();
      q.setIno(ino.value);
      q.setFirst(first);
      q.setCount(count);
    });
  };
  CHECK(chunks(16, 1024).reply().getChunks().getChunks().size() == 24);
  CHECK(chunks(0, 1025).code() == Errc::kInvalid);
  CHECK(chunks(UINT32_MAX, 1024).code() == Errc::kTooBig);
}

TEST_CASE("status lists clients, pools and this server") {
  Rig rig;
  rig.startOsds(3);
  Client c(rig.world), admin(rig.world, "admin");
  REQUIRE(c.openSession().code() == Errc::kOk);
  const InodeId ino = inoOf(c.create(kRootInode, "f"));
  REQUIRE(c.allocate(ino, 10).code() == Errc::kOk);
  auto got = admin.ask([](auto r) { r.setStatus(); });
  auto status = got.reply().getStatus();
  CHECK(std::string(status.getHealth().cStr()) == "ok");
  REQUIRE(status.getMds().size() == 1);
  CHECK(std::string(status.getMds()[0].getRole().cStr()) == "leader");
  CHECK(std::string(status.getMds()[0].getAddr().cStr()) == "mds:7700");
  REQUIRE(status.getClients().size() == 1);
  CHECK(std::string(status.getClients()[0].getMount().cStr()) == "/mnt");
  CHECK(std::string(status.getClients()[0].getAddr().cStr()).starts_with("client"));
  REQUIRE(status.getPools().size() == 1);
  CHECK(status.getPools()[0].getChunks() == 10);
  CHECK(status.getPools()[0].getBytes() == 1 * kGiB);
  CHECK(status.getInodes() == 2);
}
