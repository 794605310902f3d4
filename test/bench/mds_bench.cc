// How many metadata commands a second the state machine applies, on a LevelDB in the directory that
// is named on the command line (made, and left there). One thread; no log and no network: a ceiling
// for the MDS.
//
//   mds_bench DIR [FILES [GROUP]]
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "mds/state/state_machine.h"
#include "test/unit/common/reactor/manual_reactor.h"

using namespace cairn;
using namespace cairn::mds;

namespace {

using Build = std::function<void(schema::Mutation::Builder, uint64_t i)>;
using Wall = std::chrono::steady_clock;

// CPU time of this thread: what a command costs, whatever else the machine does. LevelDB's
// compactions run on a thread of their own and are not in it.
double cpuSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

class Bench {
 public:
  Bench(std::unique_ptr<StateMachine> machine, size_t group)
      : machine_(std::move(machine)), group_(group) {}

  StateMachine& machine() { return *machine_; }

  // `count` commands of one session, in groups; prints the rate and the slowest group.
  void run(const char* what, uint64_t count, const Build& build) {
    std::vector<double> groupsUs;
    Wall::duration spent{};
    double cpu = 0;
    for (uint64_t i = 0; i < count; i += group_) {
      const uint64_t n = std::min<uint64_t>(group_, count - i);
      std::vector<std::unique_ptr<capnp::MallocMessageBuilder>> messages;
      std::vector<schema::Command::Reader> commands;
      for (uint64_t k = i; k < i + n; ++k) {
        auto& message = messages.emplace_back(std::make_unique<capnp::MallocMessageBuilder>());
        auto c = message->initRoot<schema::Command>();
        c.setTimeNs(now_ += 1000);
        c.setRandom(k);
        if (session_ != 0) {
          c.setSession(session_);
          c.setSeq(++seq_);
          c.setAckedBelow(seq_ > group_ ? seq_ - group_ : 0);
        }
        build(c.initMutation(), k);
        commands.push_back(c.asReader());
      }
      auto from = Wall::now();
      const double cpuFrom = cpuSeconds();
      auto applied = machine_->apply(LogIndex(machine_->applied().value + 1), commands);
      cpu += cpuSeconds() - cpuFrom;
      auto took = Wall::now() - from;
      if (!applied) fatal(applied.error().text());
      for (const auto& a : *applied)
        if (a.code != Errc::kOk)
          fatal(std::string(what) + ": " + a.detail + std::string(errcName(a.code)));
      spent += took;
      groupsUs.push_back(std::chrono::duration<double, std::micro>(took).count());
    }
    report(what, count, spent, cpu, groupsUs);
  }

  void query(const char* what, uint64_t count, const std::function<bool(uint64_t)>& ask) {
    auto from = Wall::now();
    const double cpuFrom = cpuSeconds();
    for (uint64_t i = 0; i < count; ++i)
      if (!ask(i)) fatal(what);
    std::vector<double> none;
    report(what, count, Wall::now() - from, cpuSeconds() - cpuFrom, none);
  }

  void openSession() {
    run("session open", 1, [](auto m, uint64_t) { m.initSessionOpen(); });
    session_ = machine_->sessions().back().id.value;
  }

  [[noreturn]] static void fatal(const std::string& why) {
    std::fprintf(stderr, "mds_bench: %s\n", why.c_str());
    std::exit(1);
  }

 private:
  static void report(const char* what, uint64_t count, Wall::duration spent, double cpu,
                     std::vector<double>& groupsUs) {
    const double seconds = std::chrono::duration<double>(spent).count();
    const auto n = static_cast<double>(count);
    std::printf("%-22s %8.0f in %7.3f s  %8.0f /s  %6.2f us CPU", what, n, seconds, n / seconds,
                cpu * 1e6 / n);
    if (groupsUs.size() > 10) {
      std::ranges::sort(groupsUs);
      std::printf("   group p50 %.0f us, p99 %.0f us, worst %.1f ms", groupsUs[groupsUs.size() / 2],
                  groupsUs[groupsUs.size() * 99 / 100], groupsUs.back() / 1000);
    }
    std::printf("\n");
  }

  std::unique_ptr<StateMachine> machine_;
  const size_t group_;
  int64_t now_ = 1'700'000'000'000'000'000;
  uint64_t session_ = 0, seq_ = 0;
};

capnp::Data::Reader data(const std::string& s) {
  return {reinterpret_cast<const kj::byte*>(s.data()), s.size()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) Bench::fatal("usage: mds_bench DIR [FILES [GROUP]]");
  const uint64_t files = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 500'000;
  const size_t group = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 64;
  ManualReactor reactor;
  auto factory = makeLevelKvFactory();
  auto kv = factory->open(reactor, argv[1], {.errorIfExists = true});
  if (!kv) Bench::fatal(kv.error().text());
  auto opened = StateMachine::open(std::move(*kv));
  if (!opened) Bench::fatal(opened.error().text());
  Bench bench(std::move(*opened), group);
  StateMachine& machine = bench.machine();

  bench.run("bootstrap", 1, [](auto m, uint64_t) {
    auto b = m.initBootstrap();
    b.initCluster().setHi(1);
    b.setReplicas(3);
  });
  bench.openSession();

  constexpr uint64_t kPerDirectory = 10'000;
  const uint64_t directories = (files + kPerDirectory - 1) / kPerDirectory;
  auto name = [](uint64_t i) { return "file-" + std::to_string(i * 2654435761u % 1'000'000'007); };
  bench.run("mkdir", directories, [&](auto m, uint64_t i) {
    auto k = m.initMake();
    k.setParent(1);
    k.setName(data("d" + std::to_string(i)));
    k.setMode(S_IFDIR | 0755);
  });
  const uint64_t firstDirectory = 2, firstFile = 2 + directories;
  auto parent = [&](uint64_t i) { return firstDirectory + i / kPerDirectory; };
  auto make = [&](bool open) {
    return [&, open](schema::Mutation::Builder m, uint64_t i) {
      auto k = m.initMake();
      k.setParent(parent(i));
      k.setName(data(name(i)));
      k.setMode(S_IFREG | 0644);
      k.setUid(1000);
      k.setGid(1000);
      k.setOpen(open);
    };
  };
  bench.run("create + open + chunk", files, make(true));
  bench.run("commit write", files, [&](auto m, uint64_t i) {
    auto c = m.initCommitWrite();
    c.setIno(firstFile + i);
    c.setSize(4096);
    c.setMtimeNs(static_cast<int64_t>(i));
    c.setSetMtime(true);
  });
  bench.query("lookup", files, [&](uint64_t i) {
    uint64_t k = i * 7919 % files;
    return machine.lookup(InodeId(parent(k)), name(k)).has_value();
  });
  bench.query("getattr", files, [&](uint64_t i) {
    return machine.inode(InodeId(firstFile + i * 7919 % files)).has_value();
  });
  bench.query("readdir of 10,000", directories, [&](uint64_t i) {
    return machine.readdir(InodeId(firstDirectory + i), 0, SIZE_MAX)->size() > 2;
  });
  bench.run("rename", files, [&](auto m, uint64_t i) {
    auto r = m.initRename();
    r.setParent(parent(i));
    r.setName(data(name(i)));
    r.setNewParent(parent(i));
    r.setNewName(data("r" + std::to_string(i)));
  });
  bench.run("unlink", files, [&](auto m, uint64_t i) {
    auto r = m.initRemove();
    r.setParent(parent(i));
    r.setName(data("r" + std::to_string(i)));
  });
  bench.run("create, empty", files, make(false));
  return 0;
}
