#include "tools/cairn/command.h"

#include <sys/stat.h>
#include <unistd.h>
#include <ctime>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "common/disk/uring_disk.h"
#include "common/kv/kv.h"
#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/net/uring_network.h"
#include "tools/cairn/embedded.h"

namespace cairn::tools {

void printError(const Error& error) {
  std::string text = error.message.empty() ? error.text() : error.message;
  std::fprintf(stderr, "cairn: %s\n", text.c_str());
}

std::string defaultDataDirectory() {
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr && *home != '\0' ? home : "/root") + "/.local/share/cairn";
}

void addTargetOptions(CLI::App& app, Target& target) {
  auto* data = app.add_option("--data", target.data,
                              "Embedded cluster on this machine (default: ~/.local/share/cairn)")
                   ->type_name("DIR");
  app.add_option("--cluster", target.cluster,
                 "Addresses of the metadata servers of any other cluster")
      ->type_name("ADDR[,ADDR...]")
      ->excludes(data);
}

Result<std::vector<Endpoint>> Target::endpoints() const {
  if (!cluster.empty()) return parseEndpoints(cluster);
  auto embedded = Embedded::load(data.empty() ? defaultDataDirectory() : data);
  TRY(embedded);
  return std::vector<Endpoint>{embedded->mdsEndpoint()};
}

namespace {
// A mount lets the kernel drop pages on these, and the kernel may wait there for requests that wait
// for other mounts, which must not keep other files' pages from being dropped. They are started
// when needed.
constexpr unsigned kOffloadThreads = 256;
}  // namespace

int runInWorld(const std::function<Task<Result<void>>(Env&, UringReactor&)>& body) {
  auto reactor = UringReactor::create({.offloadThreads = kOffloadThreads});
  if (!reactor) {
    printError(reactor.error());
    return 1;
  }
  Log log((*reactor)->clock(), STDERR_FILENO, "cairn", LogLevel::kWarning);
  MetricsRegistry metrics;
  BufferPool buffers;
  SeededRandom random(systemRandom64());
  UringNetwork network(**reactor);
  UringDisk disk(**reactor);
  auto kv = makeLevelKvFactory();
  Env env{**reactor, random, network, disk, *kv, buffers, log, metrics};
  Result<void> result =
      fail(Errc::kBadMessage, "the server's answer cannot be read: is it of the same release?");
  try {
    result = (*reactor)->run(body(env, **reactor));
  } catch (const kj::Exception&) {  // `result` says it
  }
  if (result) return 0;
  printError(result.error());
  return 1;
}

MdsConnection::MdsConnection(Env& env, std::vector<Endpoint> servers)
    : env_(env), servers_(std::move(servers)) {
  for (const auto& s : servers_) {
    RpcClient::Options o;
    o.to = s;
    clients_.push_back(std::make_unique<RpcClient>(env_, std::move(o)));
  }
}

Task<Result<InMessage>> MdsConnection::ask(std::function<void(schema::MdsRequest::Builder)> fill,
                                           Duration timeout) {
  Error last;
  std::string names;
  for (auto& client : clients_) {
    OutMessage m;
    fill(m.body<schema::MdsRequest>());
    auto reply = co_await client->call(std::move(m), timeout);
    if (reply || !reply.error().retryable()) co_return reply;
    last = reply.error();
    names += (names.empty() ? "" : ", ") + client->endpoint().text();
  }
  co_return fail(Errc::kUnavailable, "no metadata server answers at " + names + ": " +
                                         last.message +
                                         "; start the cluster (cairn up) or check the address");
}

Task<void> MdsConnection::close() {
  for (auto& c : clients_) co_await c->close();
}

Result<MountedPath> mountedPath(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return fail(errnoError(errno, path));
  struct stat st{};
  if (::stat(resolved, &st) != 0) return fail(errnoError(errno, path));
  // The mount with the longest mount point that is a prefix of the path.
  std::ifstream in("/proc/self/mountinfo");
  std::string line, best, source;
  bool ours = false;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    std::string id, parent, dev, root, point, word, type, src;
    fields >> id >> parent >> dev >> root >> point;
    while (fields >> word && word != "-") {
    }
    fields >> type >> src;
    std::string prefix = point == "/" ? "/" : point + "/";
    std::string full = std::string(resolved) + "/";
    if (full.compare(0, prefix.size(), prefix) == 0 && point.size() >= best.size()) {
      best = point;
      ours = type == "fuse.cairn";
      source = src;
    }
  }
  if (!ours)
    return fail(Errc::kInvalid,
                path + " does not lie on a mounted Cairn filesystem (it is on " + best + ")");
  auto servers = parseEndpoints(source);
  TRY(servers);
  return MountedPath{InodeId(st.st_ino), S_ISDIR(st.st_mode), std::move(*servers)};
}

std::string timeText(int64_t ns) {
  char text[64];
  const time_t sec = ns / 1'000'000'000;
  std::tm tm{};
  ::gmtime_r(&sec, &tm);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
  return text;
}

}  // namespace cairn::tools
