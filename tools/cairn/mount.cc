// `cairn mount` and mount.cairn.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "client/fuse/mount.h"
#include "common/config/config.h"
#include "common/disk/uring_disk.h"
#include "common/kv/kv.h"
#include "common/logging/log.h"
#include "common/metrics/metrics.h"
#include "common/net/uring_network.h"
#include "tools/cairn/command.h"

namespace cairn::tools {

namespace {

constexpr const char* kDefaultConfig = "/etc/cairn/client.conf";

struct MountArguments {
  std::string source, directory;
  std::vector<std::string> options;
  std::string configFile;  // "" = kDefaultConfig if it is there
  std::vector<std::string> settings;
  std::string logFile;
  bool foreground = false;
  int readyFd = -1;
};

// Where the log of a background mount goes unless said otherwise: /var/log/cairn for root,
// ~/.local/state/cairn for others.
std::string defaultLogFile(const std::string& directory) {
  std::string name = directory;
  for (char& c : name)
    if (c == '/') c = '-';
  std::string base = "/var/log/cairn";
  if (::geteuid() != 0) {
    const char* home = std::getenv("HOME");
    base = std::string(home != nullptr ? home : "/tmp") + "/.local/state/cairn";
  }
  return base + "/mount" + name + ".log";
}

int openLog(const std::string& file) {
  for (size_t slash = file.find('/', 1); slash != std::string::npos;
       slash = file.find('/', slash + 1))
    ::mkdir(file.substr(0, slash).c_str(), 0755);
  return ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

Task<void> stopOnSignal(UringReactor& reactor, Event& stop) {
  while (co_await reactor.nextSignal() != 0) stop.set();
}

Task<Result<void>> serveMount(Env& env, UringReactor& reactor, client::MountOptions options,
                              int readyFd, std::string logFile) {
  Event stop(reactor);
  TaskScope scope(reactor);
  scope.spawn(stopOnSignal(reactor, stop));
  auto outcome =
      co_await client::runMount(env, reactor, std::move(options), stop, [readyFd, logFile] {
        // From here on nobody reads our standard error.
        if (!logFile.empty()) {
          int fd = openLog(logFile);
          if (fd >= 0) ::dup2(fd, STDERR_FILENO);
          int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
          ::dup2(null, STDIN_FILENO);
          ::dup2(null, STDOUT_FILENO);
          if (fd < 0) ::dup2(null, STDERR_FILENO);
        }
        if (readyFd >= 0) {
          [[maybe_unused]] ssize_t n = ::write(readyFd, "ready\n", 6);
          ::close(readyFd);
        }
      });
  reactor.closeSignals();
  co_await scope.join();
  co_return outcome;
}

int runForeground(client::MountOptions options, LogLevel level, int readyFd,
                  const std::string& logFile) {
  UringReactor::adoptSignals();
  return runInWorld([&](Env& env, UringReactor& reactor) {
    env.log.setComponent("client");
    env.log.setLevel(level);
    return serveMount(env, reactor, options, readyFd, logFile);
  });
}

// Forks before anything else exists (an io_uring belongs to the thread that made it) and returns in
// the parent when the mount is there.
int runBackground(client::MountOptions options, LogLevel level, const std::string& logFile) {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) {
    printError(errnoError(errno, "pipe"));
    return 1;
  }
  pid_t pid = ::fork();
  if (pid < 0) {
    printError(errnoError(errno, "fork"));
    return 1;
  }
  if (pid == 0) {
    ::close(ready[0]);
    ::setsid();
    [[maybe_unused]] int n = ::chdir("/");
    _exit(runForeground(std::move(options), level, ready[1], logFile));
  }
  ::close(ready[1]);
  char c = 0;
  ssize_t n;
  while ((n = ::read(ready[0], &c, 1)) < 0 && errno == EINTR) {
  }
  if (n == 1) return 0;
  int status = 0;
  ::waitpid(pid, &status, 0);  // it has said why on our standard error
  return 1;
}

// Sorts "-o" words: config=FILE, settings of the [client] section without the section, and the
// rest, which is the mount's.
std::string takeSettings(const std::string& text, MountArguments& a) {
  std::string rest;
  for (size_t at = 0; at <= text.size();) {
    size_t comma = std::min(text.find(',', at), text.size());
    std::string word = text.substr(at, comma - at);
    at = comma + 1;
    std::string name = "client." + word.substr(0, word.find('='));
    bool setting =
        word.find('=') != std::string::npos &&
        std::ranges::any_of(clientSettings(), [&](const Setting& s) { return s.name == name; });
    if (setting)
      a.settings.push_back("client." + word);
    else if (word.starts_with("config="))
      a.configFile = word.substr(7);
    else
      rest += (rest.empty() ? "" : ",") + word;
  }
  return rest;
}

// What the [client] section of the configuration and the settings given with it say.
Result<LogLevel> applyConfig(const MountArguments& a, client::MountOptions& o) {
  std::map<std::string, std::string> overrides;
  for (const auto& word : a.settings) {
    size_t eq = word.find('=');
    if (eq == std::string::npos)
      return fail(Errc::kInvalid, "--set " + word + ": write section.key=value");
    overrides[word.substr(0, eq)] = word.substr(eq + 1);
  }
  std::optional<std::string> file;
  if (!a.configFile.empty())
    file = a.configFile;
  else if (::access(kDefaultConfig, F_OK) == 0)
    file = kDefaultConfig;
  auto config = Config::load(clientSettings(), file, overrides);
  TRY(config);
  o.filesystem.cacheBytes = config->bytes("client.cache_bytes");
  o.filesystem.writeBufferBytes = config->bytes("client.write_buffer_bytes");
  o.filesystem.flushAge = config->duration("client.flush_age");
  o.filesystem.readaheadBytes = config->bytes("client.readahead_bytes");
  o.filesystem.requestTimeout = config->duration("client.request_timeout");
  auto seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  o.edge.attrTimeoutSec = seconds(config->duration("client.attr_timeout"));
  o.edge.entryTimeoutSec = seconds(config->duration("client.entry_timeout"));
  LogLevel level = LogLevel::kInfo;
  parseLogLevel(config->text("client.log_level"), level);
  return level;
}

int mountIt(MountArguments a) {
  client::MountOptions o;
  for (auto& text : a.options) text = takeSettings(text, a);
  auto level = applyConfig(a, o);
  if (!level) {
    printError(level.error());
    return 1;
  }
  auto servers = parseEndpoints(a.source);
  if (!servers) {
    printError(servers.error());
    return 1;
  }
  o.filesystem.mds = *servers;
  o.source = a.source;
  char resolved[PATH_MAX];
  o.directory = ::realpath(a.directory.c_str(), resolved) != nullptr ? resolved : a.directory;
  for (const auto& text : a.options) {
    auto ok = client::parseMountOptions(text, o);
    if (!ok) {
      printError(ok.error());
      return 1;
    }
  }
  if (auto ok = client::checkMountPoint(o.directory); !ok) {
    printError(ok.error());
    return 1;
  }
  if (a.foreground) return runForeground(std::move(o), *level, a.readyFd, a.logFile);
  return runBackground(o, *level, a.logFile.empty() ? defaultLogFile(o.directory) : a.logFile);
}

}  // namespace

void addMountCommand(CLI::App& app, int& exitCode) {
  auto a = std::make_shared<MountArguments>();
  auto* c = app.add_subcommand(
      "mount", "Mount a filesystem; `umount DIR` or `fusermount3 -u DIR` ends it cleanly");
  c->add_option("-o", a->options, "Mount options, see mount.cairn(8)")
      ->type_name("OPTS")
      ->allow_extra_args(false);
  c->add_option("--config", a->configFile,
                "Settings, see cairn.conf(5) (default: /etc/cairn/client.conf if it is there)")
      ->type_name("FILE");
  c->add_option("--set", a->settings,
                "One setting: client.key=value; repeatable, wins over the file")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  c->add_flag("-f,--foreground", a->foreground, "Serve in this process and log to standard error");
  c->add_option("--log", a->logFile,
                "Log file of a background mount (default: /var/log/cairn, ~/.local/state/cairn)")
      ->type_name("FILE");
  c->add_option("--ready-fd", a->readyFd, "Write a line to this descriptor once mounted")
      ->type_name("N");
  c->add_option("ADDR", a->source, "Addresses of the metadata servers: HOST:PORT[,HOST:PORT...]")
      ->required();
  c->add_option("DIR", a->directory, "Where to mount")->required();
  c->callback([a, &exitCode] { exitCode = mountIt(*a); });
}

int mountHelperMain(int argc, char** argv) {
  MountArguments a;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    std::string w = argv[i];
    if (w == "-h" || w == "--help") {
      std::puts(
          "usage: mount.cairn ADDR[,ADDR...] DIR [-sfnv] [-o OPTS]\n"
          "Called by mount(8) for `mount -t cairn`; see mount.cairn(8).");
      return 0;
    }
    if (w == "-o" || w == "-t" || w == "-N") {
      if (++i == argc) {
        std::fprintf(stderr, "mount.cairn: %s needs a value\n", w.c_str());
        return 2;
      }
      if (w == "-o") a.options.emplace_back(argv[i]);
    } else if (w == "-f") {
      return 0;  // mount --fake: do everything but mount
    } else if (w.size() > 1 && w[0] == '-') {
      // -s (tolerate unknown options), -n (no mtab), -v (verbose): nothing to do
    } else {
      words.push_back(w);
    }
  }
  if (words.size() != 2) {
    std::fprintf(stderr, "usage: mount.cairn ADDR[,ADDR...] DIR [-sfnv] [-o OPTS]\n");
    return 2;
  }
  a.source = words[0];
  a.directory = words[1];
  return mountIt(a);
}

}  // namespace cairn::tools
