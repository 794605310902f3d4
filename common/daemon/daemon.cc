#include "common/daemon/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "common/base/buffer.h"
#include "common/daemon/command_line.h"
#include "common/daemon/version.h"
#include "common/disk/uring_disk.h"
#include "common/kv/kv.h"
#include "common/logging/log.h"
#include "common/metrics/http.h"
#include "common/metrics/metrics.h"
#include "common/net/uring_network.h"
#include "common/reactor/uring_reactor.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include <kj/exception.h>
// clang-format on

namespace cairn {

namespace {

constexpr size_t kKeptBufferBytes = 256 * kMiB;

// The one line that says why it could not go on.
int explain(const DaemonSpec& spec, const Error& error) {
  std::string line = error.message.empty() ? error.text() : error.message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s\n", spec.program.c_str(), line.c_str());
  return 1;
}

Task<void> watchSignals(UringReactor& reactor, Daemon& daemon) {
  std::optional<TimePoint> asked;
  while (int signal = co_await reactor.nextSignal()) {
    if (signal == SIGHUP) continue;  // there is no terminal to lose and nothing to read again
    if (asked) {
      // timeout(1) and others signal the process and then its group: that is asking once.
      if (reactor.now() - *asked < 1s) continue;
      // Whoever asks twice does not want to wait. As after a kill: what was acknowledged is
      // durable.
      daemon.env().log.warning("stopped at once", {{"signal", signal}});
      std::_Exit(128 + signal);
    }
    asked = reactor.now();
    daemon.env().log.info("stopping", {{"signal", signal}});
    notifyServiceManager("STOPPING=1");
    daemon.stopping().set();
  }
}

Task<Result<int>> guarded(const std::function<Task<Result<int>>(Daemon&)>& main, Daemon& daemon) {
  Result<int> result = fail(Errc::kIo, "internal error");
  try {
    result = co_await main(daemon);
  } catch (const kj::Exception& e) {
    result = fail(Errc::kIo, std::string("internal error: ") + e.getDescription().cStr());
  } catch (const std::exception& e) {
    result = fail(Errc::kIo, std::string("internal error: ") + e.what());
  }
  co_return result;
}

Task<Result<int>> supervise(UringReactor& reactor, Daemon& daemon, MetricsServer* metrics,
                            const std::function<Task<Result<int>>(Daemon&)>& main) {
  if (metrics != nullptr) CO_TRY(metrics->start());
  TaskScope scope(reactor);
  scope.spawn(watchSignals(reactor, daemon));
  auto result = co_await guarded(main, daemon);
  daemon.setHealth({});  // what it looked at is gone
  reactor.closeSignals();
  if (metrics != nullptr) co_await metrics->close();
  co_await scope.join();
  co_return result;
}

Result<int> runIn(const DaemonSpec& spec, const CommandLine& line,
                  const std::function<Task<Result<int>>(Daemon&)>& main) {
  auto config = Config::load(spec.settings, line.configFile, line.settings);
  TRY(config);
  const bool errand = spec.isErrand && spec.isErrand();
  BufferPool buffers(kKeptBufferBytes, errand ? 0 : spec.registeredBytes);
  auto made = UringReactor::create();
  TRY(made);
  UringReactor& reactor = **made;
  LogLevel level = LogLevel::kInfo;
  parseLogLevel(config->text(spec.section + ".log_level"), level);
  Log log(reactor.clock(), STDERR_FILENO, spec.section, level);
  if (!buffers.arena().empty() && !reactor.registerArena(buffers.arena()))
    log.warning("memory is not registered",
                {{"reason", "it may not be locked: raise LimitMEMLOCK (ulimit -l)"}});
  MetricsRegistry metrics;
  SeededRandom random(systemRandom64());
  UringNetwork network(reactor);
  UringDisk disk(reactor);
  auto kv = makeLevelKvFactory();
  Env env{reactor, random, network, disk, *kv, buffers, log, metrics};
  Daemon daemon(env, *config, spec.section, line.readyFd);

  std::unique_ptr<MetricsServer> server;
  const std::string& at = config->text(spec.section + ".metrics_listen");
  if (!at.empty() && !errand) {
    auto endpoint = parseEndpoint(at);
    TRY(endpoint);
    server = std::make_unique<MetricsServer>(env, *endpoint);
    server->setHealth([&daemon] { return daemon.health(); });
  }
  return reactor.run(supervise(reactor, daemon, server.get(), main));
}

bool isEveryAddress(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

}  // namespace

Daemon::Daemon(Env& env, const Config& config, std::string section, int readyFd)
    : env_(env),
      config_(config),
      section_(std::move(section)),
      stopping_(env.reactor),
      readyFd_(readyFd) {}

void Daemon::ready(const std::string& endpoint) {
  if (std::exchange(ready_, true)) return;
  env_.log.info("ready", {{"at", endpoint}});
  std::string line = "ready " + endpoint + "\n";
  // A line this short is written whole or, if nobody reads any more, not at all.
  (void)!::write(readyFd_, line.data(), line.size());
  if (readyFd_ > STDERR_FILENO) ::close(readyFd_);
  notifyServiceManager("READY=1");
}

Result<Endpoint> Daemon::advertised(uint16_t port) const {
  if (const std::string& given = config_.text(section_ + ".advertise"); !given.empty())
    return parseEndpoint(given);
  auto at = parseEndpoint(config_.text(section_ + ".listen"));
  TRY(at);
  return Endpoint{isEveryAddress(at->host) ? hostName() : at->host, port};
}

std::string Daemon::hostName() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

uint32_t Daemon::pid() {
  return static_cast<uint32_t>(::getpid());
}

std::string_view versionText() {
  return CAIRN_VERSION;
}

int runDaemon(int argc, char** argv, const DaemonSpec& spec,
              const std::function<Task<Result<int>>(Daemon&)>& main) {
  auto parsed = parseCommandLine(argc, argv, spec);
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  UringReactor::adoptSignals();
  try {
    auto result = runIn(spec, std::get<CommandLine>(parsed), main);
    return result ? *result : explain(spec, result.error());
  } catch (const std::exception& e) {
    return explain(spec, Error(Errc::kIo, std::string("internal error: ") + e.what()));
  }
}

}  // namespace cairn
