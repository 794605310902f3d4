#include "test/unit/mds/state/model.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("model: random operations in groups behave as on a reference namespace") {
  // A few positions for all names: most names of a directory collide.
  auto poorCookie = [](std::string_view name) -> uint64_t {
    return 3 + static_cast<uint64_t>(name.front()) % 3;
  };
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    SeededRandom random(seed);
    StateOptions options;
    // A cache that holds nearly nothing, or everything.
    options.cacheBytes = seed % 2 == 0 ? 2000 : 64u << 20;
    if (seed % 4 < 2) options.cookieOf = poorCookie;
    Mds mds(3, options);
    Model model(mds.inode(kRootInode).ctimeNs, mds->map().epoch);
    uint64_t succeeded = 0, failed = 0;
    for (int round = 0; round < 1500; ++round) {
      std::vector<Command> group;
      std::vector<schema::Command::Reader> readers;
      std::vector<Errc> expected;
      for (uint64_t n = 1 + random.below(6); n > 0; --n) {
        Op op = model.random(random);
        // Mostly forwards, sometimes back: a leader with a slow clock.
        op.by.timeNs = mds.now += static_cast<int64_t>(random.below(1000)) - 100;
        group.push_back(command([&](auto m) { op.build(m); }, op.by));
        readers.push_back(group.back()->getRoot<schema::Command>().asReader());
        expected.push_back(model.apply(op));
      }
      auto applied = mds->apply(LogIndex(mds->applied().value + 1), readers);
      REQUIRE_MESSAGE(applied.has_value(), applied.error().text());
      for (size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(static_cast<int>(readers[i].getMutation().which()));
        REQUIRE(errcName((*applied)[i].code) == errcName(expected[i]));
        ++(expected[i] == Errc::kOk ? succeeded : failed);
      }
      if (round % 100 == 0) {
        if (random.chance(1, 3)) mds.reopen();
        model.compare(mds);
        CHECK(mds->verify().empty());
      }
    }
    model.compare(mds);
    CHECK(succeeded > 1000);  // the workload is neither idle nor all refusals
    CHECK(failed > 500);
    CHECK(model.expired.size() > 10);
  }
}
