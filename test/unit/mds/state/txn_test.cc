#include "mds/state/txn.h"

#include <map>

#include "leveldb/helpers/memenv.h"

#include "common/reactor/clock.h"
#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

using Content = std::map<std::string, std::string>;

Content scanAll(Txn& txn, std::string_view prefix, std::string_view from) {
  Content out;
  std::string last;
  auto done = txn.scan(prefix, from, [&](std::string_view key, std::string_view value) {
    CHECK(std::string_view(last) < key);
    last = key;
    out.emplace(key, value);
    return true;
  });
  CHECK(done.has_value());
  return out;
}

}  // namespace

TEST_CASE("txn: reads see pending changes, rollback takes them back, commit writes them") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    auto memory = std::unique_ptr<leveldb::Env>(leveldb::NewMemEnv(leveldb::Env::Default()));
    auto factory = makeLevelKvFactory(memory.get());
    ManualReactor reactor;
    auto kv = factory->open(reactor, "/db", {});
    REQUIRE(kv.has_value());
    Txn txn(**kv, seed % 2 == 0 ? 500 : 1u << 20);
    Content stored, group, command;  // as of the last commit, the last mark, now
    auto key = [&] {
      static constexpr char kLetters[] = "IDXC";  // the first two are cached
      return std::string(1, kLetters[random.below(4)]) + std::to_string(random.below(30));
    };
    for (int step = 0; step < 5000; ++step) {
      switch (random.below(12)) {
        case 0:
          txn.rollback();
          command = group;
          break;
        case 1:
          txn.mark();
          group = command;
          break;
        case 2:
          if (!random.chance(1, 4)) break;
          REQUIRE(txn.commit().has_value());
          stored = group = command;
          break;
        case 3:
        case 4: {
          auto k = key();
          txn.del(k);
          command.erase(k);
          break;
        }
        case 5:
        case 6:
        case 7: {
          auto k = key();
          auto v = std::to_string(step);
          txn.put(k, v);
          command[k] = v;
          break;
        }
        case 8: {
          std::string prefix = key().substr(0, 1 + random.below(2));
          std::string from = std::max(prefix, key());
          Content expected;
          for (auto& [k, v] : command)
            if (k.starts_with(prefix) && k >= from) expected[k] = v;
          CHECK(scanAll(txn, prefix, from) == expected);
          break;
        }
        default: {
          auto k = key();
          auto got = txn.get(k);
          REQUIRE(got.has_value());
          auto it = command.find(k);
          CHECK(*got == (it == command.end() ? std::nullopt : std::optional(it->second)));
        }
      }
    }
    // The database holds what was committed, nothing else.
    Txn fresh(**kv, 0);
    CHECK(scanAll(fresh, "", "") == stored);
  }
}

TEST_CASE("cache: it stays within its limit and forgets the oldest") {
  PointCache cache(2000);
  for (int i = 0; i < 100; ++i) cache.put("k" + std::to_string(i), std::string(10, 'v'));
  CHECK(cache.bytes() <= 2000);
  CHECK(cache.find("k99") != nullptr);
  CHECK(cache.find("k0") == nullptr);
  cache.put("k99", "new");
  CHECK(*cache.find("k99") == "new");
  cache.erase("k99");
  CHECK(cache.find("k99") == nullptr);
}
