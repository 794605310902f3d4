// `cairn up` and `cairn down`: an embedded cluster from nothing to a healthy mount, and back to
// files at rest.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <thread>

#include "client/fuse/mount.h"
#include "common/config/config.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"
#include "tools/cairn/embedded.h"
#include "tools/cairn/spawn.h"

namespace cairn::tools {

namespace {

constexpr int kStartSec = 60;  // creating a store zeroes its log
constexpr int kServesSec = 60;
constexpr int kSettledSec = 5;
constexpr int kStopSec = 60;
constexpr uint64_t kMaxDefaultOsdBytes = 16 * kGiB;
constexpr uint64_t kMinOsdBytes = 512 * kMiB;

struct UpOptions {
  std::string data, mount, osdSize;
  unsigned osds = 0, replicas = 0, mds = 1;
};

void step(const std::string& text) {
  std::cout << text << std::endl;
}

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

std::string trimSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

Result<uint64_t> defaultOsdBytes(const std::string& directory, unsigned osds) {
  struct statvfs v{};
  if (::statvfs(directory.c_str(), &v) != 0) return fail(errnoError(errno, directory));
  uint64_t free = uint64_t{v.f_bavail} * v.f_frsize;
  uint64_t each = roundDown(std::min(free / 2 / osds, kMaxDefaultOsdBytes), 64 * kMiB);
  if (each < kMinOsdBytes)
    return fail(Errc::kNoSpace, directory + ": " + formatBytes(free) + " free is too little for " +
                                    std::to_string(osds) + " OSDs of at least " +
                                    formatBytes(kMinOsdBytes) +
                                    "; choose another directory with --data, or fewer --osds");
  return each;
}

Result<void> addOsds(Embedded& e, unsigned wanted) {
  while (e.osds.size() < wanted) {
    auto port = freePort();
    TRY(port);
    bool taken = *port == e.mdsPort;
    for (const auto& o : e.osds) taken = taken || o.port == *port;
    if (taken) continue;
    unsigned number = e.osds.empty() ? 1 : e.osds.back().number + 1;
    e.osds.push_back({number, *port});
  }
  return {};
}

// The cluster that `options` ask for: the one in the directory, or a new one.
Result<Embedded> planned(const UpOptions& o, const std::string& directory) {
  if (o.mds != 1)
    return fail(Errc::kNotSupported,
                "--mds " + std::to_string(o.mds) +
                    ": this release runs one metadata server; leave --mds out");
  Embedded e = Embedded::make(directory);
  if (Embedded::exists(directory)) {
    auto loaded = Embedded::load(directory);
    TRY(loaded);
    e = std::move(*loaded);
    if (o.replicas != 0 && o.replicas != e.replicas)
      return fail(Errc::kInvalid, directory + ": this cluster keeps " + std::to_string(e.replicas) +
                                      " copies, not " + std::to_string(o.replicas) +
                                      "; leave --replicas out, or make a pool with that many: "
                                      "cairn pool create NAME --replicas N");
    if (o.osds != 0 && o.osds < e.osds.size())
      return fail(Errc::kInvalid, directory + ": this cluster has " +
                                      std::to_string(e.osds.size()) +
                                      " OSDs; --osds can add to them, not take away");
    TRY(addOsds(e, o.osds));
  } else {
    std::error_code ec;
    if (std::filesystem::exists(directory, ec) && !std::filesystem::is_empty(directory, ec))
      return fail(
          Errc::kExists,
          directory +
              ": not empty and no cluster of ours; choose an empty or new directory with --data");
    unsigned osds = o.osds == 0 ? 3 : o.osds;
    e.replicas = o.replicas == 0 ? std::min(3u, osds) : o.replicas;
    if (e.replicas > osds)
      return fail(Errc::kInvalid, "--replicas " + std::to_string(e.replicas) +
                                      " needs as many OSDs, and --osds is " + std::to_string(osds));
    auto port = freePort();
    TRY(port);
    e.mdsPort = *port;
    TRY(addOsds(e, osds));
  }
  if (!o.mount.empty()) e.mount = trimSlash(absolute(o.mount));
  return e;
}

Result<void> makeDirectories(const Embedded& e) {
  for (const char* sub : {"", "run", "log", "mds"}) {
    std::error_code ec;
    std::filesystem::create_directories(e.path(sub), ec);
    if (ec) return fail(errnoError(ec.value(), e.path(sub)));
  }
  return {};
}

Result<void> startMds(const Embedded& e) {
  DaemonProcess process(e, "mds");
  if (process.running()) return {};
  auto binary = siblingBinary("cairn-mds");
  TRY(binary);
  step("starting the metadata server on " + e.mdsEndpoint().text());
  return process.start(
      {*binary, "--set", "mds.data=" + e.path("mds"), "--set",
       "mds.listen=" + e.mdsEndpoint().text(), "--set",
       "mds.replicas=" + std::to_string(e.replicas), "--set", "mds.metrics_listen="},
      kStartSec);
}

Result<void> startOsd(const Embedded& e, const EmbeddedOsd& o) {
  std::string name = "osd" + std::to_string(o.number);
  DaemonProcess process(e, name);
  if (process.running()) return {};
  auto binary = siblingBinary("cairn-osd");
  TRY(binary);
  Endpoint at{"127.0.0.1", o.port};
  step("starting " + name + " on " + at.text());
  return process.start(
      {*binary, "--set", "osd.data=" + e.path(name), "--set", "osd.listen=" + at.text(), "--set",
       "osd.mds=" + e.mdsEndpoint().text(), "--set", "osd.size=" + std::to_string(e.osdBytes),
       "--set", "osd.metrics_listen="},
      kStartSec);
}

std::string joined(const std::vector<std::string>& problems) {
  std::string out;
  for (const auto& p : problems) out += (out.empty() ? "" : "; ") + p;
  return out;
}

// Waits until every group has all its members, or serves with fewer and nothing changes any more,
// or has served for kServesSec. Gives what is wrong with the cluster all the same: lost blocks, for
// one, do not come back by waiting.
Task<Result<void>> started(Env& env, Endpoint mds, unsigned osds,
                           std::vector<std::string>& problems) {
  MdsConnection connection(env, {mds});
  const TimePoint deadline = env.reactor.now() + std::chrono::seconds(kServesSec);
  TimePoint changed = env.reactor.now();
  std::array<uint64_t, 4> last{};
  Result<void> outcome;
  while (true) {
    auto reply = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
    const TimePoint now = env.reactor.now();
    bool serves = false;
    if (reply) {
      const auto v = ClusterView::read(reply->body<schema::MdsReply>().getStatus());
      const auto up = std::ranges::count_if(v.map.osds, [](const auto& o) { return o.second.up; });
      uint64_t whole = 0, degraded = 0, unavailable = 0, empty = 0;
      for (const PoolView& p : v.pools) {
        whole += p.pgs.clean + p.pgs.recovering;
        degraded += p.pgs.degraded;
        // What waits for OSDs that there never were keeps nobody waiting.
        (p.chunks == 0 ? empty : unavailable) += p.pgs.unavailable;
      }
      problems = v.problems;
      if (up < osds)
        problems.push_back(std::to_string(up) + " of " + std::to_string(osds) + " OSDs are up");
      serves = whole + degraded != 0 && unavailable == 0;
      if (up >= osds && serves && degraded + empty == 0) break;
      const std::array<uint64_t, 4> state{v.map.epoch.value, static_cast<uint64_t>(up),
                                          v.recovery.chunksLeft, v.recovery.bytesLeft};
      if (std::exchange(last, state) != state) changed = now;
      if (up >= osds && serves && now - changed > std::chrono::seconds(kSettledSec)) break;
    } else {
      problems = {reply.error().message};
    }
    if (now > deadline) {
      if (!serves)
        outcome = fail(Errc::kTimeout, "the cluster does not serve after " +
                                           std::to_string(kServesSec) + " s: " + joined(problems));
      break;
    }
    co_await sleepFor(env.reactor, 50ms);  // between two looks at a daemon that is starting
  }
  co_await connection.close();
  co_return outcome;
}

// Starts what does not run, and mounts. Gives what is wrong with the cluster.
Result<std::vector<std::string>> startAll(const Embedded& e, bool fresh) {
  TRY(startMds(e));
  std::vector<std::string> problems;
  unsigned osds = 0;
  for (const auto& osd : e.osds) {
    auto running = startOsd(e, osd);
    osds += running ? 1 : 0;
    if (running) continue;
    if (fresh) return fail(running.error());
    step(running.error().message);  // others may have all that it holds
  }
  int code = runInWorld(
      [&](Env& env, UringReactor&) { return started(env, e.mdsEndpoint(), osds, problems); });
  if (code != 0) return fail(Errc::kCanceled);  // printed already
  if (osds < e.osds.size())
    problems.insert(problems.begin(),
                    std::to_string(e.osds.size() - osds) + " OSDs have not started");
  DaemonProcess mountProcess(e, "mount");
  if (!e.mount.empty() && !mountProcess.running()) {
    step("mounting at " + e.mount);
    TRY(mountProcess.start({ownPath(), "mount", "--foreground", e.mdsEndpoint().text(), e.mount},
                           kStartSec));
  }
  if (struct statvfs v{}; !e.mount.empty() && ::statvfs(e.mount.c_str(), &v) != 0)
    return fail(errnoError(
        errno, e.mount + ": mounted, but does not answer; see " + e.path("log/mount.log")));
  return problems;
}

// A cluster that could not be made: its daemons end, and the directory is as it was before. Nobody
// has stored anything in it.
void abandon(const Embedded& e, bool directoryExisted) {
  for (const auto& o : e.osds)
    (void)DaemonProcess(e, "osd" + std::to_string(o.number)).stop(SIGKILL, kStopSec);
  (void)DaemonProcess(e, "mds").stop(SIGKILL, kStopSec);
  std::error_code ec;
  if (!directoryExisted) {
    std::filesystem::remove_all(e.directory, ec);
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(e.directory, ec))
    std::filesystem::remove_all(entry.path(), ec);
}

Result<void> up(const UpOptions& o) {
  std::string directory = trimSlash(absolute(o.data.empty() ? defaultDataDirectory() : o.data));
  auto plan = planned(o, directory);
  TRY(plan);
  Embedded e = std::move(*plan);
  const bool fresh = !Embedded::exists(directory);
  if (!e.mount.empty() && !DaemonProcess(e, "mount").running()) {
    std::error_code ec;
    std::filesystem::create_directories(e.mount, ec);  // what is wrong with it, the check says
    TRY(client::checkMountPoint(e.mount));
  }
  const bool existed = ::access(directory.c_str(), F_OK) == 0;
  auto outcome = [&]() -> Result<std::vector<std::string>> {
    TRY(makeDirectories(e));
    if (fresh) {
      auto size = o.osdSize.empty()
                      ? defaultOsdBytes(directory, static_cast<unsigned>(e.osds.size()))
                      : parseBytes(o.osdSize);
      TRY(size);
      if (*size < kMinOsdBytes)
        return fail(Errc::kInvalid, "an OSD of " + formatBytes(*size) +
                                        " is too small: its log alone takes 256 MiB; give it at "
                                        "least " +
                                        formatBytes(kMinOsdBytes) + " with --osd-size");
      e.osdBytes = *size;
    }
    TRY(e.save());
    return startAll(e, fresh);
  }();
  if (!outcome) {
    // What took too long may be tried again, and of a daemon that ended without a word the log is
    // all there is.
    const Errc code = outcome.error().code;
    if (fresh && code != Errc::kTimeout && code != Errc::kCanceled && code != Errc::kIo)
      abandon(e, existed);
    return fail(outcome.error());
  }
  if (outcome->empty())
    step("The cluster is healthy" + (e.mount.empty() ? "" : " and mounted at " + e.mount) + ".");
  else
    step("The cluster serves" + (e.mount.empty() ? "" : " and is mounted at " + e.mount) +
         ", but: " + joined(*outcome));
  return {};
}

Result<void> unmountAt(const std::string& mount, const DaemonProcess& process) {
  if (!process.running()) return {};
  step("unmounting " + mount);
  if (::umount2(mount.c_str(), 0) != 0) {
    if (errno == EBUSY)
      return fail(Errc::kBusy, mount + ": in use; close what uses it (fuser -vm " + mount +
                                   "), then run this again");
    if (errno == EPERM) {
      if (runAndWait({"fusermount3", "-u", "--", mount}) != 0)
        return fail(
            Errc::kBusy,
            mount + ": fusermount3 could not unmount it; close what uses it, then run this again");
    } else if (errno != EINVAL && errno != ENOENT) {  // those: not mounted (any more)
      return fail(errnoError(errno, mount));
    }
  }
  auto ended = process.awaitEnd(kStopSec);
  if (!ended && ended.error().code == Errc::kTimeout) return process.stop(SIGTERM, kStopSec);
  return ended;
}

Result<void> down(const std::string& data) {
  std::string directory = trimSlash(absolute(data.empty() ? defaultDataDirectory() : data));
  auto loaded = Embedded::load(directory);
  TRY(loaded);
  const Embedded& e = *loaded;
  TRY(unmountAt(e.mount, DaemonProcess(e, "mount")));
  // First who would have the groups of each OSD taken over by those that stop next.
  DaemonProcess mds(e, "mds");
  if (mds.running()) step("stopping the metadata server");
  TRY(mds.stop(SIGTERM, kStopSec));
  for (const auto& o : e.osds) {
    DaemonProcess process(e, "osd" + std::to_string(o.number));
    if (process.running()) step("stopping osd" + std::to_string(o.number));
    TRY(process.stop(SIGTERM, kStopSec));
  }
  step("The cluster is down; its data stays in " + directory + ".");
  return {};
}

// Adds storage daemons to a cluster that runs. One that does not start leaves no trace in the plan.
Result<void> addRunning(const std::string& data, unsigned count) {
  std::string directory = trimSlash(absolute(data.empty() ? defaultDataDirectory() : data));
  auto loaded = Embedded::load(directory);
  TRY(loaded);
  Embedded& e = *loaded;
  if (!DaemonProcess(e, "mds").running())
    return fail(
        Errc::kUnavailable,
        directory + ": this cluster is not running; start it with: cairn up --data " + directory);
  for (; count > 0; --count) {
    Embedded before = e;
    TRY(addOsds(e, static_cast<unsigned>(e.osds.size()) + 1));
    const EmbeddedOsd added = e.osds.back();
    const std::string name = "osd" + std::to_string(added.number);
    const bool existed = ::access(e.path(name).c_str(), F_OK) == 0;
    if (existed)
      return fail(Errc::kExists, e.path(name) +
                                     ": is left from an OSD that was removed; delete or move it, "
                                     "then run this again");
    TRY(e.save());
    if (auto started = startOsd(e, added); !started) {
      std::error_code ec;
      (void)DaemonProcess(e, name).stop(SIGKILL, kStopSec);
      std::filesystem::remove_all(e.path(name), ec);
      TRY(before.save());
      return started;
    }
    step(name + " serves; its share of the data moves to it (cairn status --watch).");
  }
  return {};
}

int reported(const Result<void>& result) {
  if (result) return 0;
  if (result.error().code != Errc::kCanceled) printError(result.error());
  return 1;
}

}  // namespace

void addUpCommand(CLI::App& app, int& exitCode) {
  auto o = std::make_shared<UpOptions>();
  auto* c = app.add_subcommand(
      "up", "Create or restart an embedded cluster; returns when it is mounted and healthy");
  c->add_option("--data", o->data,
                "Where its daemons keep everything (default: ~/.local/share/cairn)")
      ->type_name("DIR");
  c->add_option("--mount", o->mount,
                "Where to mount it (default: where it was mounted before, or not at all)")
      ->type_name("DIR");
  c->add_option(
       "--osds", o->osds,
       "Object storage daemons of a new cluster (default: 3); more than there are adds some")
      ->check(CLI::Range(1, 9999))
      ->type_name("N");
  c->add_option("--replicas", o->replicas,
                "Copies of every chunk of a new cluster (default: 3, at most the OSDs)")
      ->check(CLI::Range(1, 7))
      ->type_name("N");
  c->add_option("--mds", o->mds, "Metadata servers (default: 1)")
      ->check(CLI::Range(1, 9))
      ->type_name("N");
  c->add_option("--osd-size", o->osdSize,
                "Disk space for each OSD of a new cluster (default: up to 16GiB, at most half of "
                "what is free)")
      ->type_name("SIZE");
  c->callback([o, &exitCode] { exitCode = reported(up(*o)); });
}

void addOsdAddCommand(CLI::App& osd, int& exitCode) {
  struct Options {
    std::string data;
    unsigned count = 1;
  };
  auto o = std::make_shared<Options>();
  auto* c = osd.add_subcommand(
      "add", "Add one to an embedded cluster; elsewhere, start cairn-osd on the new machine");
  c->add_option("--data", o->data,
                "Where its daemons keep everything (default: ~/.local/share/cairn)")
      ->type_name("DIR");
  c->add_option("--count", o->count, "How many (default: 1)")
      ->check(CLI::Range(1, 100))
      ->type_name("N");
  c->callback([o, &exitCode] { exitCode = reported(addRunning(o->data, o->count)); });
}

void addDownCommand(CLI::App& app, int& exitCode) {
  auto data = std::make_shared<std::string>();
  auto* c =
      app.add_subcommand("down", "Flush, unmount and stop an embedded cluster; the data stays");
  c->add_option("--data", *data,
                "Where its daemons keep everything (default: ~/.local/share/cairn)")
      ->type_name("DIR");
  c->callback([data, &exitCode] { exitCode = reported(down(*data)); });
}

}  // namespace cairn::tools
