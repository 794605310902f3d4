// Access control lists: what is one, and how lists and modes follow each other. The expectations
// are what setfacl(1), chmod(1) and mkdir(1) do on ext4.
#include "mds/ops/acl.h"

#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::ops;
using namespace cairn::mds::statetest;

namespace {

enum : uint16_t { kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32 };
constexpr uint32_t kNobody = ~0u;

struct Entry {
  uint16_t tag, permissions;
  uint32_t id = kNobody;
};

std::string bytesOf(const std::vector<Entry>& entries, uint32_t version = 2) {
  std::string out;
  auto put = [&out](uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> 8 * i));
  };
  put(version, 4);
  for (const Entry& e : entries) {
    put(e.tag, 2);
    put(e.permissions, 2);
    put(e.id, 4);
  }
  return out;
}

// u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--
const std::vector<Entry> kNamed = {
    {kUserObj, 7}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 7}, {kOther, 4}};
const std::vector<Entry> kMinimal = {{kUserObj, 6}, {kGroupObj, 4}, {kOther, 0}};

std::string aclAt(Mds& mds, InodeId ino, std::string_view name) {
  auto value = mds->getxattr(ino, name);
  return value ? *value : "";
}

}  // namespace

TEST_CASE("acl: what acl_valid(3) accepts is parsed and written as it was") {
  for (const auto& entries : {kNamed,
                              kMinimal,
                              {{kUserObj, 7}, {kGroupObj, 0}, {kMask, 0}, {kOther, 0}},
                              {{kUserObj, 0},
                               {kUser, 1, 5},
                               {kUser, 2, 3},
                               {kGroupObj, 1},
                               {kGroup, 7, 0},
                               {kGroup, 7, 9},
                               {kMask, 7},
                               {kOther, 7}}}) {
    auto acl = Acl::parse(bytesOf(entries));
    REQUIRE(acl.has_value());
    CHECK(acl->encode() == bytesOf(entries));
  }
  CHECK(Acl::parse(bytesOf({}))->empty());
}

TEST_CASE("acl: what is no list is refused") {
  const std::vector<std::vector<Entry>> wrong = {
      {{kUserObj, 7}, {kGroupObj, 7}},
      {{kUserObj, 7}, {kOther, 7}},
      {{kGroupObj, 7}, {kOther, 7}},
      {{kUserObj, 8}, {kGroupObj, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kUser, 7, 1}, {kGroupObj, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kUser, 7, kNobody}, {kGroupObj, 7}, {kMask, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kGroupObj, 7}, {kUser, 7, 1}, {kMask, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kGroupObj, 7}, {kMask, 7}, {kMask, 7}, {kOther, 7}},
      {{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}, {64, 7}},
      {{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}, {3, 7}},
  };
  for (const auto& entries : wrong)
    CHECK(Acl::parse(bytesOf(entries)).error().code == Errc::kInvalid);
  CHECK(Acl::parse(bytesOf(kNamed, 1)).error().code == Errc::kNotSupported);
  const std::string whole = bytesOf(kNamed);
  for (size_t cut = 0; cut < whole.size(); ++cut)
    if (cut < 4 || (cut - 4) % 8 != 0)
      CHECK(Acl::parse(whole.substr(0, cut)).error().code == Errc::kInvalid);
}

TEST_CASE("acl: the mask is what the mode shows of the group") {
  auto acl = *Acl::parse(bytesOf(kNamed));
  CHECK_FALSE(acl.minimal());
  CHECK(acl.mode() == 0774);
  acl.setMode(0640);
  CHECK(acl.mode() == 0640);
  CHECK(acl.encode() ==
        bytesOf({{kUserObj, 6}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 4}, {kOther, 0}}));
  auto plain = *Acl::parse(bytesOf(kMinimal));
  CHECK(plain.minimal());
  CHECK(plain.mode() == 0640);
}

TEST_CASE("an access list sets the mode, and chmod sets the list") {
  Mds mds;
  const InodeId f = mds.file("f");
  REQUIRE(mds.setxattr(f, kAccessAcl, bytesOf(kNamed)).ok());
  CHECK((mds.inode(f).mode & 07777) == 0774);
  CHECK(mds.inode(f).xattrCount == 1);
  REQUIRE(mds.setattr(f,
                      [](auto s) {
                        s.setSetMode(true);
                        s.setMode(04710);
                      })
              .ok());
  CHECK((mds.inode(f).mode & 07777) == 04710);
  CHECK(aclAt(mds, f, kAccessAcl) ==
        bytesOf({{kUserObj, 7}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 1}, {kOther, 0}}));
}

TEST_CASE("an access list that says no more than the mode is not kept") {
  Mds mds;
  const InodeId f = mds.file("f");
  REQUIRE(mds.setxattr(f, kAccessAcl, bytesOf(kNamed)).ok());
  auto set = mds.setxattr(f, kAccessAcl, bytesOf(kMinimal));
  REQUIRE(set.ok());
  CHECK(set.attr().getBare());
  CHECK((mds.inode(f).mode & 07777) == 0640);
  CHECK(mds.inode(f).xattrCount == 0);
  CHECK(mds.inode(f).xattrListBytes == 0);
}

TEST_CASE("a list is removed, also by an empty one, and also where there is none") {
  Mds mds;
  const InodeId d = mds.dir("d");
  for (auto name : {kAccessAcl, kDefaultAcl}) {
    REQUIRE(mds.setxattr(d, name, bytesOf(kNamed)).ok());
    CHECK(mds.removexattr(d, name).ok());
    CHECK(mds.removexattr(d, name).ok());
    REQUIRE(mds.setxattr(d, name, bytesOf(kNamed)).ok());
    CHECK(mds.setxattr(d, name, bytesOf({})).ok());
    CHECK(mds.inode(d).xattrCount == 0);
  }
  CHECK((mds.inode(d).mode & 0777) == 0774);  // stays as the list left it
}

TEST_CASE("lists are refused where they cannot be") {
  Mds mds;
  const InodeId f = mds.file("f");
  const InodeId l = mds.make(kRootInode, "l", S_IFLNK, {.target = "f"}).ino();
  const std::string before = mds.records();
  CHECK(mds.setxattr(f, kDefaultAcl, bytesOf(kNamed)).code() == Errc::kAccess);
  CHECK(mds.setxattr(l, kAccessAcl, bytesOf(kNamed)).code() == Errc::kNotSupported);
  CHECK(mds.setxattr(f, kAccessAcl, "nonsense").code() == Errc::kInvalid);
  CHECK(mds.setxattr(f, "system.other", "x").code() == Errc::kNotSupported);
  CHECK(mds.records() == before);
}

TEST_CASE("setgid goes when somebody outside the group sets a list") {
  Mds mds;
  const InodeId f = mds.make(kRootInode, "f", S_IFREG | 02750).ino();
  auto set = [&](bool drop) {
    return mds.run([&](auto m) {
      auto x = m.initSetxattr();
      x.setIno(f.value);
      const std::string acl = bytesOf(kNamed);
      x.setName({reinterpret_cast<const uint8_t*>(kAccessAcl.data()), kAccessAcl.size()});
      x.setValue({reinterpret_cast<const uint8_t*>(acl.data()), acl.size()});
      x.setDropSgid(drop);
    });
  };
  REQUIRE(set(false).ok());
  CHECK((mds.inode(f).mode & 07777) == 02774);
  REQUIRE(set(true).ok());
  CHECK((mds.inode(f).mode & 07777) == 0774);
}

TEST_CASE("what is made takes the directory's default list, or else the umask") {
  Mds mds;
  const InodeId plain = mds.dir("plain"), d = mds.dir("d");
  auto mode = [&](InodeId ino) { return mds.inode(ino).mode & 07777; };
  CHECK(mode(mds.make(plain, "f", S_IFREG | 0666, {.umask = 027}).ino()) == 0640);
  CHECK(mode(mds.make(plain, "d", S_IFDIR | 01777, {.umask = 022}).ino()) == 01755);
  CHECK(mode(mds.make(plain, "l", S_IFLNK, {.target = "x", .umask = 077}).ino()) == 0777);

  REQUIRE(mds.setxattr(d, kDefaultAcl, bytesOf(kNamed)).ok());
  // As setfacl -d -m u::rwx,u:1000:rw,g::rx,m::rwx,o::r; umask 077; touch f
  auto f = mds.make(d, "f", S_IFREG | 0666, {.umask = 077});
  CHECK((f.attr().getMode() & 07777) == 0664);
  CHECK_FALSE(f.attr().getBare());
  CHECK(aclAt(mds, f.ino(), kAccessAcl) ==
        bytesOf({{kUserObj, 6}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 6}, {kOther, 4}}));
  CHECK(aclAt(mds, f.ino(), kDefaultAcl).empty());
  auto sub = mds.make(d, "sub", S_IFDIR | 0777, {.umask = 077}).ino();
  CHECK(mode(sub) == 0774);
  CHECK(aclAt(mds, sub, kDefaultAcl) == bytesOf(kNamed));
  CHECK(aclAt(mds, sub, kAccessAcl) == bytesOf(kNamed));
  CHECK(mds.make(d, "l", S_IFLNK, {.target = "x"}).attr().getBare());
  constexpr uint32_t kWhiteout = 4;
  REQUIRE(mds.rename(d, "f", d, "moved", kWhiteout).ok());
  const InodeId whiteout = mds->lookup(d, "f")->ino;
  CHECK(mode(whiteout) == 0);
  CHECK(aclAt(mds, whiteout, kAccessAcl) ==
        bytesOf({{kUserObj, 0}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 0}, {kOther, 0}}));

  // A default list of three entries leaves none behind, only its mode.
  REQUIRE(mds.setxattr(d, kDefaultAcl, bytesOf(kMinimal)).ok());
  auto g = mds.make(d, "g", S_IFREG | 0777, {.umask = 077});
  CHECK((g.attr().getMode() & 07777) == 0640);
  CHECK(g.attr().getBare());
}
