// What the main() of every daemon shares: the command line, the configuration, the world (Env), the
// metrics port, signals, readiness and the one line that says why it could not go on.
//
//   --config FILE            settings in TOML (see cairn.conf(5))
//   --set section.key=value  one setting; repeatable; wins over the file
//   --version, --help
//   --ready-fd N             where to write the readiness line (default: standard output)
// and what `addOptions` adds.
//
// Ready: one line "ready HOST:PORT" is written and flushed, and sd_notify(3)'s READY=1 goes to
// NOTIFY_SOCKET, when the daemon serves; whoever started it waits for either.
//
// Signals: SIGTERM and SIGINT set `stopping()`; the daemon's main task then closes what it opened
// and returns. Another one, a second or more later, ends the process at once. SIGPIPE is ignored.
//
// Exit: what the task returns; 1 after "PROGRAM: THING: REASON; WAY OUT" on standard error for any
// failure; 2 for usage. One reactor thread, the caller's.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "common/base/env.h"
#include "common/base/result.h"
#include "common/config/config.h"
#include "common/net/network.h"
#include "common/reactor/sync.h"

namespace CLI {
class App;
}

namespace cairn {

struct DaemonSpec {
  std::string program;      // "cairn-osd"
  std::string description;  // one line for --help
  // "osd": the component in the log, and the section that holds `log_level` and `metrics_listen`.
  std::string section;
  std::span<const Setting> settings;
  // Adds options of this daemon alone; their targets must outlive runDaemon(). May be empty.
  std::function<void(CLI::App&)> addOptions;
  // Asked after parsing: true when this call only does a piece of work and serves nothing, so that
  // no metrics port is opened. May be empty.
  std::function<bool()> isErrand;
  // Memory of the buffer pool that is registered with the kernel, where it may be locked: for
  // daemons that move data between disk and network.
  size_t registeredBytes = 0;
};

class Daemon {
 public:
  // All outlive it.
  Daemon(Env& env, const Config& config, std::string section, int readyFd);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  [[nodiscard]] Env& env() { return env_; }
  [[nodiscard]] const Config& config() const { return config_; }
  // Set by SIGTERM or SIGINT: close and return.
  [[nodiscard]] Event& stopping() { return stopping_; }
  // Says once that the daemon serves at `endpoint` ("HOST:PORT").
  void ready(const std::string& endpoint);
  // What /healthz says; unset or empty: ok. `health` is called until it is replaced.
  void setHealth(std::function<Result<void>()> health) { health_ = std::move(health); }
  [[nodiscard]] Result<void> health() const { return health_ ? health_() : Result<void>{}; }

  // Where others reach this daemon, which listens on `port`: SECTION.advertise, or else the host of
  // SECTION.listen, or, when that is every address, the host's name.
  [[nodiscard]] Result<Endpoint> advertised(uint16_t port) const;

  [[nodiscard]] static std::string hostName();
  [[nodiscard]] static uint32_t pid();

 private:
  Env& env_;
  const Config& config_;
  const std::string section_;
  Event stopping_;
  std::function<Result<void>()> health_;
  int readyFd_;
  bool ready_ = false;
};

// The daemon from its first line to its exit code. `main` is called once, when all of Env is there.
int runDaemon(int argc, char** argv, const DaemonSpec& spec,
              const std::function<Task<Result<int>>(Daemon&)>& main);

// Sends `state` ("READY=1") to the service manager if there is one; see sd_notify(3).
void notifyServiceManager(const std::string& state);

// The project's version, "0.1.0".
std::string_view versionText();

}  // namespace cairn
