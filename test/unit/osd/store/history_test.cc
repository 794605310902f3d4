// The history of a placement group: which change of each chunk was the last, through removals,
// trimming, dropped groups and crashes.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/kv/kv.h"
#include "osd/store/chunk_maps.h"
#include "osd/store/history.h"
#include "osd/store/metadata.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

constexpr GroupId kOtherPool{PoolId(2), PgIndex(0)};

Changed after(uint64_t version) {
  return changed(version, UINT64_MAX);
}

std::vector<Changed> historyOf(StoreHost& host, GroupId group = kGroup) {
  auto all = host.store->changes(group, {}, SIZE_MAX);
  REQUIRE_MESSAGE(all, all.error().text());
  return *all;
}

GroupState stateOf(StoreHost& host, GroupId group = kGroup) {
  auto state = host.store->groupState(group);
  REQUIRE(state);
  return *state;
}

Errc write(StoreHost& host, uint64_t chunk, uint32_t block, uint64_t tag, size_t blocks,
           Stamp stamp) {
  Buffer data = tagged(host.node->buffers(), tag, blocks);
  auto crcs = crcsOf(data);
  auto done = host.world.await(
      *host.node, host.store->write(ChunkId(chunk), block * kBlockSize, data, crcs, stamp));
  REQUIRE(done);
  return *done ? Errc::kOk : done->error().code;
}

// Killed, without power, closed.
void endSomehow(StoreHost& host, int how) {
  if (how == 2) return host.reopen();
  host.crash(how == 0 ? sim::Crash::kProcess : sim::Crash::kPower);
  host.mustOpen();
}

}  // namespace

TEST_CASE("history: each chunk once, by the number of its last change, in pieces of any size") {
  for (int how = 0; how < 3; ++how) {
    CAPTURE(how);
    StoreHost host(1);
    host.createAndOpen();
    CHECK(historyOf(host).empty());
    CHECK(host.store->groups()->empty());
    CHECK(write(host, 5, 0, 100, 4, stampOf(1)) == Errc::kOk);
    CHECK(write(host, 9, 0, 200, 100, stampOf(2)) == Errc::kOk);
    CHECK(host.allocate(3, 0, 10, 3) == Errc::kOk);
    CHECK(host.clone(9, 0, 4, 0, 10, 4) == Errc::kOk);
    CHECK(write(host, 77, 0, 300, 1, stampOf(2, kOther)) == Errc::kOk);
    CHECK(write(host, 78, 0, 400, 1, stampOf(9, kOtherPool)) == Errc::kOk);
    CHECK(write(host, 5, 7, 500, 1, stampOf(6)) == Errc::kOk);
    CHECK(host.zero(9, 0, 5, 7) == Errc::kOk);
    CHECK(write(host, 4, 0, 600, 1, stampOf(5)) == Errc::kOk);
    CHECK(write(host, 5, 8, 700, 1, stampOf(2)) == Errc::kOk);  // an old number moves nothing
    const std::vector<Changed> all{changed(3, 3), changed(5, 4), changed(6, 5), changed(7, 9)};
    for (int round = 0; round < 2; ++round) {
      CHECK(historyOf(host) == all);
      CHECK(historyOf(host, kOther) == std::vector{changed(2, 77)});
      CHECK(historyOf(host, kOtherPool) == std::vector{changed(9, 78)});
      CHECK(*host.store->groups() == std::vector{kGroup, kOther, kOtherPool});
      CHECK(stateOf(host).last == ChunkVersion(7));
      CHECK(stateOf(host, kOther).last == ChunkVersion(2));
      CHECK(stateOf(host, {PoolId(3), PgIndex(0)}).last == ChunkVersion(0));
      CHECK(host.store->changes(kGroup, after(5), 100) == std::vector{all[2], all[3]});
      CHECK(host.store->changes(kGroup, all[1], 1) == std::vector{all[2]});
      CHECK(host.store->changes(kGroup, changed(5, 3), 1) == std::vector{all[1]});
      CHECK(host.store->changes(kGroup, after(7), 1)->empty());
      CHECK(host.store->changes(kGroup, {}, 0)->empty());
      CHECK((*host.store->stat(ChunkId(77)))->group == kOther);
      for (const auto& chunk : *host.store->list(ChunkId(0), 100))
        CHECK((chunk.info.group == kGroup) == (chunk.id < ChunkId(77)));
      endSomehow(host, how);
    }
    checkClean(host);
  }
}

TEST_CASE("history: how far all is committed only grows, and is durable with the mutation") {
  StoreHost host(2);
  host.createAndOpen();
  CHECK(write(host, 1, 0, 1, 1, stampOf(10, kGroup, 7)) == Errc::kOk);
  CHECK(write(host, 1, 0, 2, 1, stampOf(11, kGroup, 0)) == Errc::kOk);
  CHECK(write(host, 1, 0, 3, 1, stampOf(12, kGroup, 5)) == Errc::kOk);
  CHECK(stateOf(host).committed == ChunkVersion(7));
  CHECK(write(host, 1, 0, 4, 1, stampOf(13, kGroup, 12)) == Errc::kOk);
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  CHECK(stateOf(host).committed == ChunkVersion(12));
  CHECK(stateOf(host).last == ChunkVersion(13));
  CHECK(stateOf(host, kOther).committed == ChunkVersion(0));
}

TEST_CASE("history: zeroing what does not exist is not recorded, not even over a removal") {
  StoreHost host(3);
  host.createAndOpen();
  CHECK(host.zero(1, 0, 5, 8) == Errc::kOk);
  CHECK(host.store->groups()->empty());
  CHECK(host.remove({2}, 4) == Errc::kOk);
  CHECK(host.zero(2, 0, 5, 9) == Errc::kOk);
  CHECK(historyOf(host) == std::vector{changed(4, 2, true)});
  CHECK(stateOf(host).last == ChunkVersion(4));
}

TEST_CASE("history: a removal stays in it, of what never existed too, until the chunk comes back") {
  for (int how = 0; how < 3; ++how) {
    CAPTURE(how);
    StoreHost host(4);
    host.createAndOpen();
    for (uint64_t c = 1; c <= 12; ++c) CHECK(host.write(c, 0, c * 100, 3, c) == Errc::kOk);
    std::vector<uint64_t> gone;  // more than one record takes
    std::vector<Changed> expected;
    for (uint64_t c = 12; c >= 3; --c) gone.push_back(c);
    gone.push_back(500);
    expected = {changed(1, 1), changed(2, 2)};
    for (size_t i = 0; i < gone.size(); ++i) expected.push_back(changed(20 + i, gone[i], true));
    CHECK(host.remove(gone, 20) == Errc::kOk);
    for (int round = 0; round < 2; ++round) {
      CHECK(historyOf(host) == expected);
      CHECK(stateOf(host).last == ChunkVersion(30));
      CHECK(host.store->space().chunks == 2);
      CHECK(host.store->list(ChunkId(0), 100)->size() == 2);
      CHECK(!*host.store->stat(ChunkId(500)));
      CHECK(host.read(12, 0, 3)->version == ChunkVersion(0));
      endSomehow(host, how);
    }
    // Removed again, made anew, and with a number that is older than the removal's.
    CHECK(host.remove({12, 11}, 40) == Errc::kOk);
    CHECK(host.write(10, 0, 7000, 2, 42) == Errc::kOk);
    CHECK(host.allocate(9, 0, 2, 43) == Errc::kOk);
    CHECK(host.clone(10, 0, 8, 0, 2, 44) == Errc::kOk);
    CHECK(host.write(7, 0, 8000, 2, 3) == Errc::kOk);
    CHECK(host.remove({6}, 3) == Errc::kOk);
    CHECK(host.remove({2}, 1) == Errc::kOk);
    expected = {changed(1, 1),         changed(2, 2, true),    changed(25, 7),
                changed(26, 6, true),  changed(27, 5, true),   changed(28, 4, true),
                changed(29, 3, true),  changed(30, 500, true), changed(40, 12, true),
                changed(41, 11, true), changed(42, 10),        changed(43, 9),
                changed(44, 8)};
    for (int round = 0; round < 2; ++round) {
      CHECK(historyOf(host) == expected);
      CHECK((*host.store->stat(ChunkId(7)))->version == ChunkVersion(25));
      CHECK(host.tags(7, 0, 3) == std::vector<uint64_t>{8000, 8001, 0});
      CHECK(host.tags(8, 0, 3) == std::vector<uint64_t>{7000, 7001, 0});
      CHECK(host.store->space().chunks == 5);
      endSomehow(host, how);
    }
    checkClean(host);
  }
}

TEST_CASE("history: a chunk is of one group for ever, also when it was removed") {
  StoreHost host(5);
  host.createAndOpen();
  auto run = [&](Task<Result<void>> task) {
    auto done = host.world.await(*host.node, std::move(task));
    REQUIRE(done);
    return *done ? Errc::kOk : done->error().code;
  };
  CHECK(host.write(1, 0, 100, 1, 1) == Errc::kOk);
  CHECK(write(host, 2, 0, 200, 1, stampOf(1, kOther)) == Errc::kOk);
  const uint32_t block = kBlockSize;
  for (int round = 0; round < 2; ++round) {
    Store& store = *host.store;
    CHECK(write(host, 1, 0, 300, 1, stampOf(9, kOther)) == Errc::kInvalid);
    CHECK(run(store.zero(ChunkId(1), 0, block, stampOf(9, kOther))) == Errc::kInvalid);
    CHECK(run(store.allocate(ChunkId(1), 0, block, stampOf(9, kOther))) == Errc::kInvalid);
    CHECK(run(store.clone(ChunkId(2), 0, ChunkId(1), 0, block, stampOf(9, kOther))) ==
          Errc::kInvalid);
    CHECK(run(store.remove({ChunkId(1)}, stampOf(9, kOther))) == Errc::kInvalid);
    CHECK(stateOf(host, kOther).last == ChunkVersion(1));
    CHECK(historyOf(host, kOther) == std::vector{changed(1, 2)});
    if (round == 0) CHECK(host.remove({1}, 2) == Errc::kOk);
    host.reopen();
  }
  CHECK(historyOf(host) == std::vector{changed(2, 1, true)});
}

// ---- Trimming ----

TEST_CASE(
    "history: trimmed removals are forgotten, nothing else is, and a crash forgets the trimming "
    "or keeps it whole") {
  bool lost = false, kept = false;
  for (int how = 0; how < 3; ++how) {
    CAPTURE(how);
    StoreHost host(6);
    host.createAndOpen();
    for (uint64_t c = 1; c <= 6; ++c) CHECK(host.write(c, 0, c * 100, 3, c) == Errc::kOk);
    CHECK(host.remove({2, 3, 4, 5}, 10) == Errc::kOk);
    const auto before = historyOf(host);
    CHECK(host.store->trimRemovals(kOther, ChunkVersion(9)));  // of what nothing is known
    CHECK(host.store->groups() == std::vector{kGroup});
    CHECK(host.store->trimRemovals(kGroup, ChunkVersion(9)));
    CHECK(historyOf(host) == before);
    CHECK(stateOf(host).trimmed == ChunkVersion(9));
    for (int again = 0; again < 2; ++again) {
      CHECK(host.store->trimRemovals(kGroup, ChunkVersion(12)));
      CHECK(historyOf(host) == std::vector{changed(1, 1), changed(6, 6), changed(13, 5, true)});
      CHECK(stateOf(host).trimmed == ChunkVersion(12));
    }
    CHECK(host.store->trimRemovals(kGroup, ChunkVersion(11)));  // never back
    CHECK(stateOf(host).trimmed == ChunkVersion(12));
    endSomehow(host, how);
    if (stateOf(host).trimmed == ChunkVersion(0)) {
      lost = true;
      CHECK(historyOf(host) == before);
    } else {
      kept = true;
      CHECK(stateOf(host).trimmed == ChunkVersion(12));
      CHECK(historyOf(host).size() == 3);
    }
    // What has such a number later is forgotten at once.
    CHECK(host.store->trimRemovals(kGroup, ChunkVersion(100)));
    CHECK(stateOf(host).trimmed == ChunkVersion(13));
    CHECK(host.remove({7, 1, 6}, 12) == Errc::kOk);
    CHECK(historyOf(host) == std::vector{changed(14, 6, true)});
    CHECK(host.store->space().usedBytes == 0);
    CHECK(host.write(2, 0, 1, 1, 15) == Errc::kOk);
    CHECK(historyOf(host) == std::vector{changed(14, 6, true), changed(15, 2)});
    checkClean(host);
  }
  CHECK(lost);
  CHECK(kept);
}

TEST_CASE("history: trimming much goes on where it stopped, over removals and chunks that exist") {
  StoreHost host(7);
  host.createAndOpen();
  constexpr uint64_t kMany = 3000;
  std::vector<uint64_t> gone;
  for (uint64_t c = 1; c <= kMany; ++c) gone.push_back(c);
  for (uint64_t c = 10; c <= 12; ++c) CHECK(host.write(c, 0, c, 1, 1) == Errc::kOk);
  CHECK(host.remove(gone, 10) == Errc::kOk);
  for (uint64_t c = 10; c <= 12; ++c) CHECK(host.write(c, 0, c, 1, kMany + c) == Errc::kOk);
  CHECK(historyOf(host).size() == kMany);
  host.reopen();
  int calls = 0;
  for (uint64_t before = 0; stateOf(host).trimmed < ChunkVersion(kMany + 9); ++calls) {
    CHECK(host.store->trimRemovals(kGroup, ChunkVersion(kMany + 9)));
    const uint64_t trimmed = stateOf(host).trimmed.value;
    REQUIRE(trimmed > before);
    before = trimmed;
    const auto left = historyOf(host);
    REQUIRE(!left.empty());
    CHECK(left.front().version.value > trimmed);
    CHECK(left.size() == 3 + (kMany + 9 - trimmed) - (trimmed < 20 ? 3 : 0));
    if (calls == 1) host.reopen();
  }
  CHECK(calls > 1);
  CHECK(historyOf(host).size() == 3);
  checkClean(host);
}

// ---- Dropping ----

TEST_CASE("history: a dropped group leaves nothing, and the others as they were") {
  StoreHost host(8);
  host.createAndOpen();
  const uint64_t used = host.store->space().usedBytes;
  CHECK(drop(host, kGroup) == Errc::kOk);  // of which nothing is known
  for (uint64_t c = 1; c <= 40; ++c)
    CHECK(write(host, c, 0, c * 1000, c % 5 == 0 ? 200 : 3,
                stampOf(c, c % 2 == 0 ? kGroup : kOther)) == Errc::kOk);
  std::vector<uint64_t> gone;
  for (uint64_t c = 1000; c < 1700; ++c) gone.push_back(c);
  CHECK(host.remove(gone, 100) == Errc::kOk);
  CHECK(host.clone(2, 0, 4, 0, 3, 900) == Errc::kOk);
  const auto other = historyOf(host, kOther);
  const GroupState otherState = stateOf(host, kOther);
  CHECK(drop(host, kGroup) == Errc::kOk);
  host.crash(sim::Crash::kPower);
  host.mustOpen();
  for (int round = 0; round < 2; ++round) {
    CHECK(historyOf(host).empty());
    CHECK(stateOf(host).last == ChunkVersion(0));
    CHECK(*host.store->groups() == std::vector{kOther});
    CHECK(historyOf(host, kOther) == other);
    CHECK(stateOf(host, kOther).last == otherState.last);
    CHECK(host.store->space().chunks == 20);
    CHECK(host.tags(15, 0, 200) == range(15'000, 200));
    CHECK(!*host.store->stat(ChunkId(2)));
    checkClean(host);
  }
  // The same again, with the numbers that it had.
  CHECK(host.write(2, 0, 5, 1, 2) == Errc::kOk);
  CHECK(historyOf(host) == std::vector{changed(2, 2)});
  CHECK(drop(host, kGroup) == Errc::kOk);
  CHECK(write(host, 2, 0, 6, 1, stampOf(2, kOtherPool)) == Errc::kOk);  // of no group any more
  CHECK(drop(host, kOther) == Errc::kOk);
  CHECK(drop(host, kOtherPool) == Errc::kOk);
  CHECK(host.store->space().usedBytes == used);
  CHECK(host.store->groups()->empty());
  checkClean(host);
}

TEST_CASE(
    "history: what is left of a group when dropping it was cut short is whole, and goes with "
    "the next try") {
  bool partly = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    StoreHost host(seed);
    host.createAndOpen();
    for (uint64_t c = 1; c <= 60; ++c) CHECK(host.write(c, 0, c * 100, 20, c) == Errc::kOk);
    CHECK(host.remove({1, 2, 3}, 61) == Errc::kOk);
    auto dropping = [](Store& store) -> Task<void> { (void)co_await store.dropGroup(kGroup); };
    host.node->spawn(dropping(*host.store));
    host.world.run(Duration(SeededRandom(seed).below(1'500'000)));
    host.crash(seed % 2 == 0 ? sim::Crash::kPower : sim::Crash::kProcess);
    host.mustOpen();
    const auto left = historyOf(host);
    partly |= !left.empty() && left.size() < 60;
    if (!left.empty()) CHECK(stateOf(host).last == ChunkVersion(63));
    std::set<uint64_t> there;
    for (const Changed& c : left) {
      CHECK(c.version.value == (c.removed ? c.chunk.value + 60 : c.chunk.value));
      if (!c.removed) there.insert(c.chunk.value);
    }
    for (uint64_t c = 1; c <= 60; ++c) {
      if (there.contains(c))
        CHECK(host.tags(c, 0, 20) == range(c * 100, 20));
      else
        CHECK(!*host.store->stat(ChunkId(c)));
    }
    checkClean(host);
    CHECK(drop(host, kGroup) == Errc::kOk);
    CHECK(host.store->groups()->empty());
    CHECK(host.store->space().usedBytes == 0);
    checkClean(host);
  }
  CHECK(partly);
}

// ---- Records ----

TEST_CASE("history: a record applied twice, or after a newer one, moves no entry back") {
  sim::SimWorld world(1);
  auto& node = world.addNode("host");
  auto kv = node.kv().open(node.reactor(), "/meta", {});
  REQUIRE(kv);
  Metadata metadata(std::move(*kv));
  History history(metadata);
  ChunkMaps maps(metadata, history, 1000, kMiB);
  auto recordOf = [](RecordKind kind, uint64_t version) {
    Record record;
    record.kind = kind;
    record.stamp = stampOf(version, kGroup, version / 2);
    if (kind == RecordKind::kRemove) {
      record.chunks = {ChunkId(1), ChunkId(2)};
    } else {
      record.chunk = ChunkId(1);
      record.pieces = {{0, 2, 10}};
      record.crcs = {1, 2};
    }
    return record;
  };
  auto contents = [&] {
    history.store();
    std::map<std::string, std::string> all;
    REQUIRE(metadata.scan("", [&](auto key, auto value) {
      if (key != keys::kApplied) all.emplace(key, value);
      return true;
    }));
    return all;
  };
  auto apply = [&](const Record& record) {
    ChunkMaps::Renamed renamed;
    REQUIRE(maps.apply(record, renamed));
  };
  Lsn lsn = 0;
  for (bool flushed : {false, true}) {
    CAPTURE(flushed);
    for (const Record& record :
         {recordOf(RecordKind::kDirect, 20), recordOf(RecordKind::kRemove, 40),
          recordOf(RecordKind::kDirect, 60)}) {
      apply(record);
      const auto once = contents();
      if (flushed) REQUIRE(maps.flush(++lsn));
      apply(record);
      CHECK(contents() == once);
    }
    const auto newest = contents();
    apply(recordOf(RecordKind::kDirect, 20));
    CHECK(contents() == newest);
    CHECK(newest.contains(keys::change(kGroup, ChunkVersion(60), ChunkId(1))));
    CHECK(newest.contains(keys::change(kGroup, ChunkVersion(41), ChunkId(2))));
    CHECK(history.state(kGroup).last == ChunkVersion(60));
    CHECK(history.state(kGroup).committed == ChunkVersion(30));
    Record dropped = recordOf(RecordKind::kRemove, 0);
    dropped.kind = RecordKind::kDrop;
    Record forgotten;
    forgotten.kind = RecordKind::kForget;
    forgotten.stamp.group = kGroup;
    for (int i = 0; i < 2; ++i) {
      apply(dropped);
      apply(forgotten);
      CHECK(contents().empty());
    }
  }
}

TEST_CASE("metadata: a new key that is deleted before a flush leaves no trace, an old one does") {
  sim::SimWorld world(1);
  auto& node = world.addNode("host");
  auto kv = node.kv().open(node.reactor(), "/meta", {});
  REQUIRE(kv);
  Metadata metadata(std::move(*kv));
  metadata.putNew("a", "1");
  metadata.put("a", "22");
  CHECK(metadata.bufferedBytes() == 3);
  metadata.del("a");
  CHECK(metadata.bufferedBytes() == 0);
  CHECK(*metadata.get("a") == std::nullopt);
  metadata.putNew("a", "3");
  REQUIRE(metadata.flush(1));
  metadata.del("a");
  metadata.putNew("a", "4");  // the database still has the other one
  metadata.del("a");
  CHECK(metadata.bufferedBytes() == 1);
  CHECK(*metadata.get("a") == std::nullopt);
  REQUIRE(metadata.flush(2));
  CHECK(*metadata.get("a") == std::nullopt);
}
