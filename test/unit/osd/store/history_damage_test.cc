// Histories that are damaged: what the checker finds, and what the store does not act upon.
#include <doctest/doctest.h>

#include <algorithm>

#include "common/kv/kv.h"
#include "osd/store/metadata.h"
#include "test/unit/osd/store/store_harness.h"

using namespace cairn;
using namespace cairn::osd;
using namespace cairn::osd::test;

namespace {

// A closed store with chunks 1 to 3 of which 3 is removed, and its metadata changed.
struct Damaged {
  Damaged() : host(20) {
    host.createAndOpen();
    CHECK(host.write(1, 0, 100, 2, 1) == Errc::kOk);
    CHECK(host.write(2, 0, 200, 2, 2) == Errc::kOk);
    CHECK(host.write(3, 0, 300, 2, 3) == Errc::kOk);
    CHECK(host.remove({3}, 4) == Errc::kOk);
    host.stop();
    host.restart();
  }
  template <class F>
  void change(F&& f) {
    auto kv = host.node->kv().open(host.node->reactor(), std::string(kDirectory) + "/meta", {});
    REQUIRE(kv);
    KvBatch batch;
    f(batch);
    REQUIRE((*kv)->write(batch, true));
    kv->reset();
    host.restart();
  }
  // What the checker says beside the log's records.
  std::vector<std::string> findings() {
    std::vector<std::string> lines;
    auto result = host.check(&lines);
    std::erase_if(lines, [](const std::string& line) { return !line.starts_with("error: "); });
    CHECK(result.otherErrors == lines.size());
    host.restart();
    return lines;
  }
  // Each of `texts` is somewhere in the findings, and there are no others.
  void finds(const std::vector<std::string>& texts) {
    auto lines = findings();
    std::string all;
    for (const auto& line : lines) all += line + "\n";
    CAPTURE(all);
    CHECK(lines.size() == texts.size());
    for (const auto& text : texts) CHECK(all.find(text) != std::string::npos);
  }
  StoreHost host;
};

std::string changeKey(uint64_t version, uint64_t chunk, GroupId group = kGroup) {
  return keys::change(group, ChunkVersion(version), ChunkId(chunk));
}

void putChange(KvBatch& batch, uint64_t version, uint64_t chunk, bool removed,
               GroupId group = kGroup) {
  const std::string key = changeKey(version, chunk, group);
  batch.put(key, ChangeFlags{removed}.encode(key));
}

void putState(KvBatch& batch, uint64_t last, uint64_t trimmed) {
  const std::string key = keys::groupState(kGroup);
  batch.put(key, encodeGroupState(key, {{}, ChunkVersion(last), ChunkVersion(trimmed)}));
}

}  // namespace

TEST_CASE("history: the checker finds every way in which it can disagree with the chunks") {
  SUBCASE("none") {
    Damaged().finds({});
  }
  SUBCASE("a chunk without an entry") {
    Damaged d;
    d.change([](KvBatch& b) { b.del(changeKey(2, 2)); });
    d.finds({"chunk 2: the history"});
  }
  SUBCASE("a removal without an entry") {
    Damaged d;
    d.change([](KvBatch& b) { b.del(changeKey(4, 3)); });
    d.finds({"chunk 3: the history"});
  }
  SUBCASE("an entry without its chunk") {
    Damaged d;
    d.change([](KvBatch& b) { putChange(b, 3, 50, false); });
    d.finds({"at version 3 of chunk 50, is not the chunk's last change"});
  }
  SUBCASE("an entry without its removal") {
    Damaged d;
    d.change([](KvBatch& b) { b.del(keys::removed(ChunkId(3))); });
    d.finds({"at version 4 of chunk 3, is not the chunk's last change"});
  }
  SUBCASE("two entries of a chunk") {
    Damaged d;
    d.change([](KvBatch& b) { putChange(b, 1, 2, false); });
    d.finds({"at version 1 of chunk 2, is not the chunk's last change"});
  }
  SUBCASE("an entry in another group") {
    Damaged d;
    d.change([](KvBatch& b) {
      b.del(changeKey(2, 2));
      putChange(b, 2, 2, false, kOther);
    });
    d.finds({"chunk 2: the history", "at version 2 of chunk 2, is not the chunk's last change",
             "is newer than the group"});
  }
  SUBCASE("a chunk that counts as removed") {
    Damaged d;
    d.change([](KvBatch& b) { putChange(b, 2, 2, true); });
    d.finds({"chunk 2: the history", "at version 2 of chunk 2, is not the chunk's last change"});
  }
  SUBCASE("a group that is older than its entries") {
    Damaged d;
    d.change([](KvBatch& b) { putState(b, 3, 0); });
    d.finds({"at version 4 of chunk 3, is newer than the group, whose last change is 3"});
  }
  SUBCASE("a removal that was to be forgotten") {
    Damaged d;
    d.change([](KvBatch& b) { putState(b, 4, 4); });
    d.finds({"at version 4 of chunk 3, is a removal"});
  }
  SUBCASE("entries of unknown kind") {
    Damaged d;
    d.change([](KvBatch& b) {
      for (const char* key : {"d", "i1", "r2", "z"}) b.put(key, "");
    });
    d.finds(std::vector<std::string>(4, "unknown kind"));
  }
}

TEST_CASE("history: any damaged entry is seen by the checker, and not used by the store") {
  const std::string state = keys::groupState(kGroup), entry = changeKey(2, 2);
  const std::string removal = keys::removed(ChunkId(3));
  for (const std::string& key : {state, entry, removal}) {
    Damaged d;
    d.change([&](KvBatch& b) {
      // The value of another key, as if it had been misplaced.
      std::string value = key == state   ? encodeGroupState("x", {{}, ChunkVersion(4), {}})
                          : key == entry ? ChangeFlags{}.encode("x")
                                         : ChunkHeader{kGroup, ChunkVersion(4), 0}.encode("x");
      b.put(key, value);
    });
    auto lines = d.findings();
    REQUIRE(!lines.empty());
    CHECK(std::ranges::any_of(
        lines, [](const auto& line) { return line.find("damaged") != std::string::npos; }));
    const Errc opened = d.host.open();
    if (key == state) {
      CHECK(opened == Errc::kCorrupt);
      CHECK(d.host.error.message.find("placement group 0 of pool 1") != std::string::npos);
      continue;
    }
    REQUIRE(opened == Errc::kOk);
    if (key == entry) {
      auto all = d.host.store->changes(kGroup, {}, 10);
      REQUIRE(!all);
      CHECK(all.error().code == Errc::kCorrupt);
      CHECK(d.host.store->changes(kGroup, changed(2, UINT64_MAX), 10) ==
            std::vector{changed(4, 3, true)});
      CHECK(drop(d.host, kGroup) == Errc::kCorrupt);
    } else {
      CHECK(d.host.write(3, 0, 1, 1, 9) == Errc::kCorrupt);
      CHECK(d.host.write(1, 0, 1, 1, 9) == Errc::kOk);
      CHECK(d.host.store->trimRemovals(kGroup, ChunkVersion(9)).error().code == Errc::kIo);
    }
  }
}

TEST_CASE("history: an entry that is not the chunk's last change is not acted upon") {
  // Dropping or trimming by it would remove a chunk that belongs elsewhere.
  for (bool removed : {false, true}) {
    Damaged d;
    d.change([&](KvBatch& b) {
      b.del(changeKey(2, 2));
      putChange(b, 3, 2, removed);
    });
    d.host.mustOpen();
    if (removed)
      CHECK(d.host.store->trimRemovals(kGroup, ChunkVersion(9)).error().code == Errc::kIo);
    else
      CHECK(drop(d.host, kGroup) == Errc::kCorrupt);
    CHECK(d.host.tags(2, 0, 2) == range(200, 2));
  }
}
