// One log, one state: however it is cut into groups, wherever it is interrupted.
#include "common/sim/sim_world.h"
#include "test/unit/mds/state/model.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

// A log that sets a cluster up and works in it. Sessions number their mutations, and some come
// twice, as after a lost answer.
struct TestLog {
  explicit TestLog(uint64_t seed, size_t length) {
    SeededRandom random(seed);
    int64_t now = 1'700'000'000'000'000'000;
    auto add = [&](const Build& build, By by = {}) {
      by.timeNs = now += 1000;
      commands.push_back(command(build, by));
    };
    add([&](auto m) {
      auto b = m.initBootstrap();
      b.initCluster().setHi(seed);
      b.setReplicas(2);
    });
    for (uint64_t i = 1; i <= 3; ++i)
      add([&](auto m) {
        auto o = m.initOsdRegister();
        o.initUuid().setLo(i);
        o.setAddr("a:" + std::to_string(i));
        o.setHost("h" + std::to_string(i));
        o.setBytesTotal(i << 40);
      });
    Model model(now);
    std::map<uint64_t, uint64_t> seqs;
    std::vector<std::pair<Op, By>> sent;
    while (commands.size() < length) {
      if (!sent.empty() && random.chance(1, 10)) {
        auto& [op, by] = sent[random.below(sent.size())];
        if (model.sessions.contains(by.session))
          add([&, &again = op](auto m) { again.build(m); }, by);
        continue;
      }
      Op op = model.random(random);
      By by = op.by;
      if (!model.sessions.empty()) {
        by.session = *model.sessions.begin();
        by.seq = ++seqs[by.session];
        by.acked = by.seq - std::min<uint64_t>(by.seq, random.below(20));
      }
      add([&](auto m) { op.build(m); }, by);
      op.by.timeNs = now;
      model.apply(op);
      if (by.session != 0) sent.emplace_back(op, by);
      if (sent.size() > 30) sent.erase(sent.begin());
    }
    for (auto& c : commands) readers.push_back(c->getRoot<schema::Command>().asReader());
  }
  [[nodiscard]] std::span<const schema::Command::Reader> from(LogIndex index) const {
    return std::span(readers).subspan(index.value - 1);
  }
  std::vector<Command> commands;
  std::vector<schema::Command::Reader> readers;
};

using Answers = std::vector<std::pair<Errc, std::string>>;
void keep(Answers& answers, std::vector<Applied> group) {
  for (auto& a : group) answers.emplace_back(a.code, a.detail + a.reply);
}

// Applies the rest of the log in groups of at most `most`.
void applyAll(StateMachine& machine, const TestLog& log, Random& random, size_t most,
              Answers* answers = nullptr) {
  while (machine.applied().value < log.readers.size()) {
    LogIndex first(machine.applied().value + 1);
    auto rest = log.from(first);
    auto done = machine.apply(first, rest.first(std::min(rest.size(), 1 + random.below(most))));
    REQUIRE_MESSAGE(done.has_value(), done.error().text());
    if (answers != nullptr) keep(*answers, std::move(*done));
  }
}

}  // namespace

TEST_CASE("replay: the groups do not matter to the state nor to the answers") {
  for (uint64_t seed : {11u, 12u, 13u}) {
    CAPTURE(seed);
    TestLog log(seed, 4000);
    SeededRandom random(seed);
    Mds one(0, {}, 0), many(0, {.cacheBytes = 3000}, 0);
    Answers a, b;
    applyAll(*one.operator->(), log, random, 1, &a);
    applyAll(*many.operator->(), log, random, 300, &b);
    CHECK(a == b);
    CHECK(dump(one.kv()) == dump(many.kv()));
    CHECK(one->counts().inodes > 10);
  }
}

TEST_CASE("replay: what was applied already is skipped, a gap is refused") {
  TestLog log(21, 500);
  SeededRandom random(21);
  Mds mds(0, {}, 0);
  applyAll(*mds.operator->(), log, random, 50);
  auto before = dump(mds.kv());
  auto again = mds->apply(LogIndex(1), log.readers);
  REQUIRE(again.has_value());
  CHECK(again->size() == log.readers.size());
  for (auto& a : *again) CHECK((a.code == Errc::kOk && a.reply.empty()));
  CHECK(dump(mds.kv()) == before);
  CHECK(mds->applied().value == log.readers.size());
  auto gap = mds->apply(LogIndex(502), std::span(log.readers).first(1));
  REQUIRE_FALSE(gap.has_value());
  CHECK(gap.error().code == Errc::kCorrupt);
  CHECK(dump(mds.kv()) == before);
}

TEST_CASE("replay: after power loss the log's rest gives the state that was lost") {
  for (uint64_t seed = 31; seed <= 42; ++seed) {
    CAPTURE(seed);
    TestLog log(seed, 1500);
    SeededRandom random(seed);
    Mds reference(0, {}, 0);
    applyAll(*reference.operator->(), log, random, 20);
    const auto expected = dump(reference.kv());

    sim::SimWorld world(seed);
    LogIndex durable;
    for (int life = 0;; ++life) {
      REQUIRE(life < 1000);
      sim::SimNode& node = world.addNode("host");
      auto kv = node.kv().open(node.reactor(), "/mds", {.writeBufferBytes = 128u << 10});
      REQUIRE_MESSAGE(kv.has_value(), kv.error().text());
      Kv* raw = kv->get();
      auto opened = StateMachine::open(std::move(*kv));
      REQUIRE_MESSAGE(opened.has_value(), opened.error().text());
      StateMachine& machine = **opened;
      REQUIRE(machine.applied() >= durable);
      const uint64_t diesAt =
          life < 5 ? machine.applied().value + random.below(600) : log.readers.size();
      while (machine.applied().value < std::min<uint64_t>(diesAt, log.readers.size())) {
        LogIndex first(machine.applied().value + 1);
        auto rest = log.from(first);
        auto done = machine.apply(first, rest.first(std::min(rest.size(), 1 + random.below(20))));
        REQUIRE_MESSAGE(done.has_value(), done.error().text());
        if (random.chance(1, 20)) {
          LogIndex upTo = machine.applied();
          auto synced = world.await(node, machine.sync());
          REQUIRE((synced && synced->has_value()));
          durable = upTo;
        }
        if (random.chance(1, 10)) world.run(std::chrono::milliseconds(10));  // compactions
      }
      if (machine.applied().value == log.readers.size() && life >= 5) {
        CHECK(machine.verify().empty());
        CHECK(dump(*raw) == expected);
        opened->reset();
        break;
      }
      if (random.chance(1, 2))
        world.powerOff("host");
      else
        world.kill(node);
      opened->reset();
    }
  }
}

TEST_CASE("replay: a database that fails stops the machine, and nothing is half done") {
  TestLog log(51, 300);
  SeededRandom random(51);
  sim::SimWorld world(51);
  sim::SimNode& node = world.addNode("host");
  auto kv = node.kv().open(node.reactor(), "/mds", {});
  REQUIRE(kv.has_value());
  auto opened = StateMachine::open(std::move(*kv));
  REQUIRE(opened.has_value());
  StateMachine& machine = **opened;
  REQUIRE(machine.apply(LogIndex(1), std::span(log.readers).first(100)).has_value());
  node.machine().kv.faults.appendError = 1;
  CHECK_FALSE(machine.apply(LogIndex(101), std::span(log.readers).subspan(100, 50)).has_value());
  node.machine().kv.faults.appendError = 0;
  CHECK_FALSE(machine.apply(LogIndex(101), std::span(log.readers).subspan(100, 50)).has_value());
  world.kill(node);
  opened->reset();

  sim::SimNode& again = world.addNode("host");
  auto kv2 = again.kv().open(again.reactor(), "/mds", {});
  REQUIRE_MESSAGE(kv2.has_value(), kv2.error().text());
  Kv* raw = kv2->get();
  auto reopened = StateMachine::open(std::move(*kv2));
  REQUIRE_MESSAGE(reopened.has_value(), reopened.error().text());
  CHECK((*reopened)->applied() == LogIndex(100));
  applyAll(**reopened, log, random, 30);
  CHECK((*reopened)->verify().empty());
  Mds reference(0, {}, 0);
  applyAll(*reference.operator->(), log, random, 30);
  CHECK(dump(*raw) == dump(reference.kv()));
  reopened->reset();
}
