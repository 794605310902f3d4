#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <optional>

#include "common/base/units.h"
#include "common/sim/sim_disk.h"
#include "common/sim/sim_world.h"
#include "mds/log/command_log.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::sim;

namespace {

constexpr Uuid kCluster{0x1111, 0x2222};
constexpr uint64_t kLogBytes = 2 * kMiB;

// What a state machine would have been given.
struct Machine {
  std::map<uint64_t, std::string> commands;  // by index
  std::vector<size_t> groups;
  uint64_t last = 0;
  Result<void> verdict;

  CommandLog::OnCommitted sink() {
    return [this](LogIndex first, std::span<const Bytes> group) -> Result<void> {
      if (!verdict) return verdict;
      CHECK(first.value == last + 1);
      for (Bytes c : group) commands[++last] = std::string(c.begin(), c.end());
      groups.push_back(group.size());
      return {};
    };
  }
};

struct Rig {
  explicit Rig(uint64_t seed) : world(seed) { boot(); }
  void boot() {
    node = &world.addNode("host");
    env.emplace(node->env());
  }

  Result<std::unique_ptr<CommandLog>> tryOpen(Machine& machine, uint64_t applied = 0,
                                              Uuid identity = kCluster) {
    machine.last = applied;
    SingleLogOptions o{"log", kLogBytes, identity, LogIndex{applied}, true};
    auto r = world.await(*node, CommandLog::openSingle(*env, o, machine.sink()));
    REQUIRE(r.has_value());
    return std::move(*r);
  }
  void open(Machine& machine, uint64_t applied = 0) {
    auto r = tryOpen(machine, applied);
    REQUIRE_MESSAGE(r.has_value(), (r ? "" : r.error().text()));
    log = std::move(*r);
  }
  void close() {
    CHECK(world.await(*node, log->close()));
    log.reset();
  }
  Buffer command(const std::string& text) {
    return env->buffers.copyOf({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  Result<LogIndex> append(const std::string& text) {
    auto r = world.await(*node, log->append(command(text)));
    REQUIRE(r.has_value());
    return *r;
  }

  SimWorld world;
  SimNode* node = nullptr;
  std::optional<Env> env;
  std::unique_ptr<CommandLog> log;
};

Task<void> appendInto(CommandLog& log, Buffer command, std::string text,
                      std::map<uint64_t, std::string>& acknowledged, size_t& failures) {
  auto index = co_await log.append(std::move(command));
  if (index)
    acknowledged[index->value] = std::move(text);
  else
    ++failures;
}

// Appends one after the other until it fails.
Task<void> writer(Rig& rig, std::string name, std::map<uint64_t, std::string>& acknowledged) {
  for (int i = 0;; ++i) {
    std::string text = name + std::to_string(i) + std::string(rig.world.random().below(3000), 'x');
    auto index = co_await rig.log->append(rig.command(text));
    if (!index) break;
    acknowledged[index->value] = std::move(text);
  }
}

}  // namespace

TEST_CASE("a command is applied before its append completes, and is replayed after a restart") {
  Rig rig(1);
  Machine machine;
  rig.open(machine);
  for (uint64_t i = 1; i <= 20; ++i) {
    auto index = rig.append("command " + std::to_string(i));
    REQUIRE(index);
    CHECK(index->value == i);
    CHECK(machine.last == i);
  }
  rig.close();
  Machine again;
  rig.open(again);
  CHECK(again.commands == machine.commands);
  CHECK(rig.append("the next")->value == 21);
  rig.close();
}

TEST_CASE("commands that become durable together are handed over together") {
  Rig rig(2);
  Machine machine;
  rig.open(machine);
  std::map<uint64_t, std::string> acknowledged;
  size_t failures = 0;
  for (int i = 0; i < 500; ++i)
    rig.node->spawn(appendInto(*rig.log, rig.command(std::to_string(i)), std::to_string(i),
                               acknowledged, failures));
  CHECK(rig.world.drain(*rig.node));
  CHECK(failures == 0);
  CHECK(acknowledged == machine.commands);
  CHECK(machine.groups.size() < 10);
  rig.close();
}

TEST_CASE("what was acknowledged survives any crash, in order, and nothing is invented") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Rig rig(seed);
    std::deque<Machine> lives(1);  // the log refers to the one that it was opened with
    rig.open(lives.back());
    std::map<uint64_t, std::string> acknowledged;
    uint64_t applied = 0;  // what a database would hold durably
    for (int round = 0; round < 3; ++round) {
      for (int w = 0; w < 8; ++w)
        rig.node->spawn(
            writer(rig, std::to_string(round) + "." + std::to_string(w) + ".", acknowledged));
      // Checkpoints on the way, so that the ring wraps.
      for (int i = 0; i < 20; ++i) {
        rig.world.run(Duration(rig.world.random().below(3'000'000)));
        applied = lives.back().last;
        rig.log->trim(LogIndex{applied});
      }
      rig.world.run(Duration(rig.world.random().below(2'000'000)));
      rig.world.crash(*rig.node, seed % 2 == 0 ? Crash::kPower : Crash::kProcess);
      CHECK(rig.world.await(*rig.node, rig.log->close()));
      CHECK(rig.world.drain(*rig.node));
      rig.log.reset();
      rig.boot();
      const Machine& before = lives.back();
      Machine& again = lives.emplace_back();
      again.commands = before.commands;
      again.commands.erase(again.commands.upper_bound(applied), again.commands.end());
      rig.open(again, applied);
      for (const auto& [index, text] : acknowledged) {
        REQUIRE(again.commands.contains(index));
        CHECK(again.commands[index] == text);
      }
      // Applied before the crash: it was durable then.
      CHECK(again.last >= before.last);
    }
    rig.close();
  }
}

TEST_CASE("commands that the database holds are not replayed, and indices go on behind it") {
  Rig rig(3);
  Machine machine;
  rig.open(machine);
  for (int i = 0; i < 10; ++i) (void)rig.append("c");
  rig.log->trim(LogIndex{4});
  rig.close();
  Machine again;
  rig.open(again, 7);
  CHECK(again.commands.size() == 3);
  CHECK(again.commands.begin()->first == 8);
  rig.log->trim(LogIndex{10});
  rig.close();
  // All trimmed: only the database knows where it was.
  Machine empty;
  rig.open(empty, 10);
  CHECK(empty.commands.empty());
  CHECK(rig.append("d")->value == 11);
  rig.close();
}

TEST_CASE("the log of another cluster is refused") {
  Rig rig(4);
  Machine machine;
  rig.open(machine);
  rig.close();
  Machine other;
  auto r = rig.tryOpen(other, 0, Uuid{9, 9});
  REQUIRE_FALSE(r);
  CHECK(r.error().code == Errc::kWrongCluster);
  CHECK(r.error().message.find("log") != std::string::npos);
}

TEST_CASE("a log in use is refused") {
  Rig rig(5);
  Machine machine, other;
  rig.open(machine);
  auto r = rig.tryOpen(other);
  REQUIRE_FALSE(r);
  CHECK(r.error().code == Errc::kBusy);
  rig.close();
}

TEST_CASE("a database without its log, or one that does not join up with it, is refused") {
  Rig rig(6);
  Machine machine;
  {
    auto r = rig.tryOpen(machine, 5);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Errc::kNotFound);
  }
  rig.open(machine);
  for (int i = 0; i < 10; ++i) (void)rig.append("c");
  rig.log->trim(LogIndex{6});
  rig.close();
  // An older copy of the database: commands between are gone.
  auto older = rig.tryOpen(machine, 3);
  REQUIRE_FALSE(older);
  CHECK(older.error().code == Errc::kCorrupt);
  // An older copy of the log.
  auto newer = rig.tryOpen(machine, 12);
  REQUIRE_FALSE(newer);
  CHECK(newer.error().code == Errc::kCorrupt);
  // All trimmed, and an older database.
  rig.open(machine, 8);
  rig.log->trim(LogIndex{10});
  rig.close();
  CHECK_FALSE(rig.tryOpen(machine, 8));
}

TEST_CASE("a first start that was interrupted before the ring was made is gone through again") {
  Rig rig(7);
  OpenOptions make;
  make.createBytes = kLogBytes;
  auto file = rig.world.await(*rig.node, rig.env->disk.open("log", make));
  REQUIRE((file && *file));
  file->value().reset();
  Machine machine;
  rig.open(machine);
  CHECK(rig.append("c")->value == 1);
  rig.close();
}

TEST_CASE("a state machine that fails stops the log") {
  Rig rig(8);
  Machine machine;
  rig.open(machine);
  CHECK(rig.append("fine"));
  machine.verdict = fail(Errc::kIo, "the database is broken");
  auto failed = rig.append("not fine");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().message == "the database is broken");
  machine.verdict = {};
  CHECK_FALSE(rig.append("too late"));
  CHECK(machine.last == 1);
  rig.close();
  // It is in the log all the same: recovery decides.
  Machine again;
  rig.open(again, 1);
  CHECK(again.commands[2] == "not fine");
  rig.close();
}

TEST_CASE("a disk that fails stops the log") {
  Rig rig(9);
  Machine machine;
  rig.open(machine);
  CHECK(rig.append("fine"));
  rig.node->machine().disk.faults.writeError = 1;
  CHECK(rig.append("lost").error().code == Errc::kIo);
  rig.node->machine().disk.faults.writeError = 0;
  CHECK_FALSE(rig.append("too late"));
  CHECK(machine.last == 1);
  rig.close();
}

TEST_CASE("a command that does not fit is refused and harms nothing") {
  Rig rig(10);
  Machine machine;
  rig.open(machine);
  CHECK(rig.append(std::string(kLogBytes / 2, 'x')).error().code == Errc::kTooBig);
  CHECK(rig.append("fits")->value == 1);
  rig.close();
  CHECK(rig.world.await(*rig.node, sleepFor(rig.node->reactor(), 1ms)));
}
