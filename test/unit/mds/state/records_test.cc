#include "mds/state/records.h"

#include <limits>

#include "mds/state/codec.h"
#include "mds/state/keys.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

Inode largest(uint32_t type) {
  Inode i;
  i.ino = InodeId(UINT64_MAX);
  i.mode = type | 07777;
  i.generation = i.nlink = i.uid = i.gid = UINT32_MAX;
  i.rdev = UINT64_MAX;
  i.size = 1ull << 50;
  i.btimeNs = std::numeric_limits<int64_t>::min();
  i.ctimeNs = i.mtimeNs = i.atimeNs = std::numeric_limits<int64_t>::max();
  i.pool = PoolId(UINT32_MAX);
  i.chunkCount = 1u << 24;
  i.tailUnclean = true;
  i.parent = InodeId(UINT64_MAX);
  i.changeVersion = i.dataVersion = UINT64_MAX;
  i.xattrCount = i.xattrListBytes = 1u << 16;
  i.writer = SessionId(UINT64_MAX);
  return i;
}

}  // namespace

TEST_CASE("records: an inode takes no more than its budget, and a usual one much less") {
  for (uint32_t type : {S_IFREG, S_IFDIR, S_IFCHR, S_IFLNK}) {
    auto i = largest(type);
    CHECK(keys::inode(i.ino).size() + encodeInode(i).size() <= 180);
  }
  Inode usual;
  usual.ino = InodeId(1'000'000'000);
  usual.mode = S_IFREG | 0644;
  usual.nlink = 1;
  usual.uid = usual.gid = 1000;
  usual.generation = 0xdeadbeef;
  usual.pool = PoolId(1);
  usual.size = 4096;
  usual.chunkCount = 1;
  usual.writer = SessionId(1'000'000);
  usual.changeVersion = usual.dataVersion = 3;
  usual.btimeNs = usual.atimeNs = 1'700'000'000'123'456'789;
  usual.mtimeNs = usual.ctimeNs = usual.btimeNs + 1'000'000'000;
  // The inode, its entry without the name, and its chunk.
  const std::string name = "name";
  size_t bytes = keys::inode(usual.ino).size() + encodeInode(usual).size() +
                 keys::dentry(usual.ino, nameCookie(name), name).size() - name.size() +
                 encodeDentry({usual.ino, 8}).size() + keys::chunk(usual.ino, 0).size() +
                 encodeChunk({ChunkId(1'000'000'000), PoolId(1)}).size();
  CHECK(bytes <= 110);
}

TEST_CASE("records: inodes come back as they were") {
  for (uint32_t type : {S_IFREG, S_IFDIR, S_IFCHR, S_IFLNK, S_IFIFO}) {
    auto i = largest(type);
    i.target = "somewhere";
    i.condemned = {{5, 10}, {7, UINT64_MAX}};
    const auto key = keys::inode(i.ino), value = encodeInode(i);
    auto back = decodeInode(key, value);
    REQUIRE(back.has_value());
    CHECK(encodeInode(*back) == value);
    CHECK(back->ino == i.ino);
    CHECK(back->btimeNs == i.btimeNs);
    CHECK(back->ctimeNs == i.ctimeNs);
    CHECK(back->condemned == i.condemned);
    CHECK(back->tailUnclean);
    CHECK(back->writer == i.writer);
    CHECK((back->parent == i.parent) == S_ISDIR(type));
    CHECK((back->rdev == i.rdev) == S_ISCHR(type));
    CHECK((back->target == i.target) == S_ISLNK(type));
  }
}

TEST_CASE("records: an inode from before writers were recorded has none") {
  auto i = largest(S_IFREG);
  i.writer = {};
  const auto key = keys::inode(i.ino), value = encodeInode(i);
  // Byte for byte what programs without the field wrote: flags 1 (tail) and 2 (xattrs).
  CHECK(value[1] == 3);
  auto back = decodeInode(key, value);
  REQUIRE(back.has_value());
  CHECK_FALSE(back->writer);
  CHECK(encodeInode(*back) == value);
  back->tailUnclean = false;
  // Nobody knows who wrote it last: everybody looks behind its end.
  CHECK(back->tailUncleanFor(SessionId(1)));
}

TEST_CASE("records: fences come back as they were") {
  const FenceRecord fence{MapEpoch(9), {SessionId(300), {SessionId(1), SessionId(299)}}};
  const auto value = encodeFence(fence);
  auto back = decodeFence(keys::mapFence(), value);
  REQUIRE(back.has_value());
  CHECK(back->epoch == fence.epoch);
  CHECK(back->fence == fence.fence);
  for (size_t n = 0; n < value.size(); ++n)
    CHECK(decodeFence(keys::mapFence(), value.substr(0, n)).error().code == Errc::kCorrupt);
  CHECK(decodeFence(keys::mapFence(), value + "x").error().code == Errc::kCorrupt);
}

TEST_CASE("records: the example in FORMAT.md is what is written") {
  Mds mds(0);
  auto message = command(
      [](auto m) {
        auto k = m.initMake();
        k.setParent(1);
        k.setName(asData("d"));
        k.setMode(S_IFDIR | 0755);
        k.setUid(1000);
        k.setGid(1000);
      },
      {.timeNs = 1'700'000'000'000'000'000});
  auto c = message->getRoot<schema::Command>();
  c.setRandom(0x2a);
  const schema::Command::Reader reader = c.asReader();
  REQUIRE(mds->apply(LogIndex(mds->applied().value + 1), {&reader, 1}).has_value());
  auto hex = [&](std::string_view key) {
    auto value = mds.kv().get(key);
    REQUIRE(value.has_value());
    return keys::text("." + *value).substr(1);
  };
  CHECK(hex(keys::inode(InodeId(2))) ==
        "01"
        "00"
        "ed8301"
        "02"
        "e807"
        "e807"
        "00"
        "2a"
        "01"
        "00"
        "01"
        "00"
        "00002a36fe9c9717"
        "00"
        "00"
        "00"
        "01");
  CHECK(hex(keys::dentry(InodeId(1), nameCookie("d"), "d")) == "010402");
}

TEST_CASE("records: a newer version is refused as such, damage as damage, neither is guessed") {
  auto i = largest(S_IFLNK);
  i.target = "somewhere";
  const auto key = keys::inode(i.ino);
  auto value = encodeInode(i);
  for (size_t n = 0; n < value.size(); ++n)
    CHECK(decodeInode(key, value.substr(0, n)).error().code == Errc::kCorrupt);
  CHECK(decodeInode(key, value + "x").error().code == Errc::kCorrupt);
  value[0] = 2;
  auto newer = decodeInode(key, value);
  REQUIRE_FALSE(newer.has_value());
  CHECK(newer.error().code == Errc::kVersion);
  CHECK(newer.error().message.find("Iffffffffffffffff") != std::string::npos);
}

TEST_CASE("records: what the map holds comes back") {
  PlacementGroup g{MapEpoch(7), {OsdId(3), OsdId(1)}, {OsdId(4)}, {OsdId(9), OsdId(2)}, {}};
  auto group = decodeGroup("Mg00000000", encodeGroup(g));
  REQUIRE(group.has_value());
  CHECK(*group == g);
  CHECK(encodeGroup(g) == std::string("\1\7\2\3\1\1\4\2\11\2\0", 11));
  g.shards = {{OsdId(300), 19}, {OsdId(3), 0}, {OsdId(1), 2}};
  const std::string value = encodeGroup(g);
  CHECK(value == std::string("\1\7\2\3\1\1\4\2\11\2\3\1\2\3\0\254\2\23", 18));
  group = decodeGroup("Mg00000000", value);
  REQUIRE(group.has_value());
  CHECK(*group == g);
  for (size_t n = 0; n < value.size(); ++n)
    CHECK(decodeGroup("Mg00000000", value.substr(0, n)).error().code == Errc::kCorrupt);
  OsdEntry o;
  o.uuid = {1, 2};
  for (int flags = 0; flags < 16; ++flags) {
    o.up = (flags & 1) != 0;
    o.in = (flags & 2) != 0;
    o.autoOut = (flags & 4) != 0;
    o.fixedWeight = (flags & 8) != 0;
    auto osd = decodeOsd("Mo0000", encodeOsd(o));
    REQUIRE(osd.has_value());
    CHECK(osd->up == o.up);
    CHECK(osd->in == o.in);
    CHECK(osd->autoOut == o.autoOut);
    CHECK(osd->fixedWeight == o.fixedWeight);
  }
  PoolRecord p;
  p.pool.replicas = 3;
  p.pool.minSize = 2;
  p.pgCount = 64;
  auto pool = decodePool("Mp0000", encodePool(p));
  REQUIRE(pool.has_value());
  CHECK(pool->pool.minSize == 2);
  CHECK(pool->pgCount == 64);
}

TEST_CASE("records: random bytes never do more than fail") {
  SeededRandom random(5);
  for (int n = 0; n < 20000; ++n) {
    std::string value(random.below(60), '\0');
    for (auto& c : value) c = static_cast<char>(random.next());
    if (!value.empty()) value[0] = 1;
    const std::string key = "I12345678";
    (void)decodeInode(key, value);
    (void)decodeDentry(key, value);
    (void)decodeChunk(key, value);
    (void)decodeOrphan(key, value);
    (void)decodeSession(key, value);
    (void)decodeReply(key, value);
    (void)decodeCounters(key, value);
    (void)decodeMapHeader(key, value);
    (void)decodeFence(key, value);
    (void)decodeOsd(key, value);
    (void)decodePool(key, value);
    (void)decodeGroup(key, value);
  }
}

TEST_CASE("codec: numbers of every size come back") {
  for (uint64_t v : {0ull, 1ull, 127ull, 128ull, 0xffffffffull, 0x100000000ull, ~0ull}) {
    auto bytes = Encoder().varint(v).fixed64(v).take();
    Decoder in(bytes);
    CHECK(in.varint() == v);
    CHECK(in.fixed64() == v);
    CHECK(in.done());
    Decoder narrow(bytes);
    CHECK(narrow.varint32() == (v <= UINT32_MAX ? v : 0));
    CHECK(narrow.failed() == (v > UINT32_MAX));
  }
  for (int64_t v : {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{1}, INT64_MAX})
    for (int64_t base : {INT64_MIN, int64_t{0}, INT64_MAX}) {
      auto bytes = Encoder().delta(v, base).take();
      CHECK(Decoder(bytes).delta(base) == v);
    }
  CHECK(Decoder(std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10)).varint() == 0);
}

TEST_CASE("keys: they sort as what they name") {
  CHECK(keys::inode(InodeId(255)) < keys::inode(InodeId(256)));
  CHECK(keys::chunk(InodeId(1), 255) < keys::chunk(InodeId(1), 256));
  CHECK(keys::chunk(InodeId(1), UINT32_MAX) < keys::chunk(InodeId(2), 0));
  CHECK(keys::dentry(InodeId(1), 5, "z") < keys::dentry(InodeId(1), 6, "a"));
  CHECK(keys::be64(keys::garbage(0x0102030405060708), 1) == 0x0102030405060708);
  CHECK(keys::be32(keys::chunk(InodeId(1), 0x01020304), 9) == 0x01020304);
}

namespace {
// Opens a database that holds one wrong record.
Error openWith(std::string_view key, std::string_view value) {
  Mds mds;
  KvBatch batch;
  batch.put(key, value);
  REQUIRE(mds.kv().write(batch).has_value());
  return mds.tryReopen();
}
}  // namespace

TEST_CASE("open: a newer format, damage and a foreign database are told apart") {
  auto newer = encodeCounters({});
  newer[0] = 4;
  CHECK(openWith("N", newer).code == Errc::kVersion);
  auto older = encodeCounters({});
  older[0] = 2;
  CHECK(openWith("N", older).code == Errc::kVersion);
  CHECK(openWith("N", older).message.find("make the cluster anew") != std::string::npos);
  auto unknownFeature = encodeCounters({});
  unknownFeature[1] = 2;
  CHECK(openWith("N", unknownFeature).code == Errc::kVersion);
  auto noFeature = encodeCounters({});
  REQUIRE(noFeature[1] == 1);
  noFeature[1] = 0;  // of a program from before the first feature
  CHECK(openWith("N", noFeature).code == Errc::kOk);
  auto compatibleFeature = encodeCounters({});
  compatibleFeature[2] = 1;
  CHECK(openWith("N", compatibleFeature).code == Errc::kOk);
  CHECK(openWith("N", "").code == Errc::kCorrupt);
  CHECK(openWith("Mh", "\x01").code == Errc::kCorrupt);
  CHECK(openWith("Mf", "\x01").code == Errc::kCorrupt);
  CHECK(openWith(keys::reply(SessionId(77), 1), encodeReply({})).code == Errc::kCorrupt);

  Mds foreign(0, {}, 0);
  KvBatch batch;
  batch.put("something", "else");
  REQUIRE(foreign.kv().write(batch).has_value());
  CHECK(foreign.tryReopen().code == Errc::kCorrupt);
}
