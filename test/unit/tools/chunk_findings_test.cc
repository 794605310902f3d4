// What fsck makes of a chunk.
#include "tools/cairn/chunk_findings.h"

#include <doctest/doctest.h>

using namespace cairn;
using namespace cairn::tools;

namespace {

constexpr ChunkId kChunk{77};
constexpr PoolId kPool{1};

// Pool 1 of four groups with two copies each, on OSDs 1 and 2 of three.
ClusterMap twoOfThree() {
  ClusterMap map;
  for (uint32_t id = 1; id <= 3; ++id) {
    OsdEntry& osd = map.osds[OsdId(id)];
    osd.id = OsdId(id);
    osd.up = osd.in = true;
  }
  Pool& pool = map.pools[kPool];
  pool.id = kPool;
  pool.replicas = 2;
  pool.pgs.resize(4);
  for (auto& pg : pool.pgs) pg.osds = {OsdId(1), OsdId(2)};
  return map;
}

struct Scene {
  ClusterMap map = twoOfThree();
  std::set<OsdId> asked = {OsdId(1), OsdId(2), OsdId(3)};
  KnownChunk file{kChunk, InodeId(9), 0, kPool};

  PgIndex group() { return map.pool(kPool)->pgOf(kChunk); }
  PlacementGroup& lists() { return map.pools[kPool].pgs[group().value]; }
  // Stored by these; what is found, in words.
  std::string judge(const KnownChunk* known, std::initializer_list<uint32_t> osds) {
    std::vector<StoredChunk> stored;
    for (uint32_t id : osds) stored.push_back({OsdId(id), kPool, group(), ChunkVersion(5)});
    return words(known, stored);
  }
  std::string words(const KnownChunk* known, const std::vector<StoredChunk>& stored) {
    std::string out;
    for (const auto& f : judgeChunk(map, asked, kChunk, known, stored)) {
      CHECK(f.chunk == kChunk);
      CHECK(!f.text.empty());
      out += (out.empty() ? "" : ", ") + std::string(troubleName(f.trouble));
    }
    return out;
  }
};

}  // namespace

TEST_CASE("a chunk of a file is held by all who are in sync") {
  Scene s;
  CHECK(s.judge(&s.file, {1, 2}).empty());
  CHECK(s.judge(&s.file, {1}) == "differs");
  CHECK(s.judge(&s.file, {2}) == "differs");
  s.asked.erase(OsdId(2));  // down: nobody knows what it holds
  CHECK(s.judge(&s.file, {1}).empty());
}

TEST_CASE("members that are joining are not judged") {
  Scene s;
  s.lists().osds = {OsdId(1)};
  s.lists().joining = {OsdId(2)};
  CHECK(s.judge(&s.file, {1}).empty());
  CHECK(s.judge(&s.file, {1, 2}).empty());
  CHECK(s.judge(nullptr, {2}).empty());
}

TEST_CASE("a chunk that nobody knows is leaked where it would be served") {
  Scene s;
  CHECK(s.judge(nullptr, {1, 2}) == "leaked");
  CHECK(s.judge(nullptr, {2}) == "leaked");
  CHECK(s.judge(nullptr, {3}) == "stray");
}

TEST_CASE("what is in the garbage queue may be anywhere") {
  Scene s;
  const KnownChunk garbage{kChunk, InodeId(), 0, kPool};
  CHECK(s.judge(&garbage, {1, 2}).empty());
  CHECK(s.judge(&garbage, {2, 3}).empty());
}

TEST_CASE("only of a group that is whole others hold nothing") {
  Scene s;
  CHECK(s.judge(&s.file, {1, 2, 3}) == "stray");
  CHECK(s.judge(&s.file, {3}) == "stray");
  s.lists().joining = {OsdId(2)};
  s.lists().osds = {OsdId(1), OsdId(4)};
  CHECK(s.judge(&s.file, {1, 3}).empty());  // it keeps its copy until the others have theirs
}

TEST_CASE("a chunk is stored under the group that its id and pool say") {
  Scene s;
  const PgIndex other((s.group().value + 1) % 4);
  CHECK(s.words(&s.file, {{OsdId(1), kPool, s.group(), ChunkVersion(5)},
                          {OsdId(2), kPool, other, ChunkVersion(5)}}) == "wrong group");
  CHECK(s.words(nullptr, {{OsdId(1), PoolId(8), PgIndex(0), ChunkVersion(5)}}) == "wrong group");
}

TEST_CASE("a finding is the same only if nothing has happened to the chunk") {
  Scene s;
  auto look = [&](uint64_t version) {
    return judgeChunk(s.map, s.asked, kChunk, &s.file,
                      {{OsdId(1), kPool, s.group(), ChunkVersion(version)}})
        .at(0);
  };
  CHECK(look(5).same(look(5)));
  CHECK(!look(5).same(look(6)));
}
