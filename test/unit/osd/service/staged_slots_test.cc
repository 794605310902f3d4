// The book of slots by itself.
#include "osd/service/erasure/staged_slots.h"

#include <doctest/doctest.h>

#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::osd;

namespace {

constexpr ChunkId kOne{42};

struct Book {
  sim::SimWorld world{1};
  sim::SimNode& node = world.addNode("osd");
  Env env = node.env();
  StagedSlots slots;
  GroupRef group = primaryship();

  GroupRef primaryship() {
    auto g =
        std::make_shared<Group>(env.reactor, GroupId{}, std::make_shared<UnderWay>(env.reactor));
    g->begin({}, MapEpoch{1});
    return g;
  }
  std::optional<uint32_t> take(uint32_t blocks) {
    return slots.take(group, kOne, blocks, env.reactor.now());
  }
};

}  // namespace

TEST_CASE("staged slots: those that are taken do not overlap, and begin where slots may begin") {
  Book b;
  std::vector<bool> used(kChunkSize / kBlockSize);
  for (uint32_t blocks : {1U, 2U, 3U, 5U, 9U, 17U, 18U, 65U, 66U, 257U, 513U, 1U, 2U, 65U}) {
    auto at = b.take(blocks);
    REQUIRE(at);
    auto place = slotPlaceAt(*at);
    REQUIRE(place);
    CHECK(place->blocks >= blocks);
    for (uint32_t i = *at; i < *at + place->blocks; ++i) {
      CHECK_FALSE(used[i]);
      used[i] = true;
      CHECK(slotPlaceAt(i).has_value() == (i == *at));
    }
  }
}

TEST_CASE("staged slots: one that was left is taken again once its change is committed") {
  Book b;
  const ChunkVersion straggler = b.group->take(1), number = b.group->take(1);
  const auto first = b.take(2);
  b.slots.leave(kOne, *first, number);
  b.group->settle(number, 1);
  const auto second = b.take(2);
  CHECK(second !=
        first);  // not while an older one is open: nobody can be told that it is committed
  b.group->settle(straggler, 1);
  CHECK(b.take(2) == first);
  b.slots.free(kOne, *second);
  CHECK(b.take(2) == second);
}

TEST_CASE("staged slots: a full book gives none until one is free") {
  Book b;
  std::vector<uint32_t> all;
  while (auto at = b.take(513)) all.push_back(*at);
  CHECK(all.size() == 4);
  b.slots.free(kOne, all.back());
  CHECK(b.take(400) == all.back());
}

TEST_CASE("staged slots: nothing is taken of a chunk whose slots are being removed") {
  Book b;
  const ChunkVersion number = b.group->take(1);
  const auto at = b.take(2);
  CHECK(b.slots.left(b.group).empty());
  b.slots.close(b.group, kOne);
  CHECK_FALSE(b.take(2));
  CHECK_FALSE(b.slots.settled(kOne));
  b.slots.leave(kOne, *at, number);
  CHECK(b.slots.settled(kOne) == number);
  CHECK(b.slots.left(b.group) == std::vector{kOne});
  b.slots.removed(kOne);
  CHECK(b.slots.empty());
  CHECK(b.take(2));
}

TEST_CASE("staged slots: a new primaryship knows nothing of the last one's") {
  Book b;
  const ChunkVersion number = b.group->take(1);
  const auto at = b.take(2);
  b.slots.leave(kOne, *at, number);
  b.world.run(2s);
  CHECK(b.slots.idleSince(b.env.reactor.now()).size() == 1);
  const GroupRef before = std::exchange(b.group, b.primaryship());
  before->over = true;
  CHECK(b.slots.left(b.group).empty());
  CHECK(b.take(2) == at);
  CHECK(b.slots.left(b.group).empty());
  b.slots.forgetOthers();
  CHECK_FALSE(b.slots.empty());
  b.group->over = true;
  b.slots.free(kOne, *at);
  CHECK(b.slots.empty());
}
