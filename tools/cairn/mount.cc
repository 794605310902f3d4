// `cairn mount` and mount.cairn.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
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
  bool tolerant = false;  // mount -s: options that are not known are left out
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

// How the process that serves a mount meets the one that asked for it.
struct Serving {
  LogLevel level = LogLevel::kInfo;
  int readyFd = -1;     // -1 = nobody waits for a line
  std::string logFile;  // "" = stay in the foreground, and log to standard error
  bool mounted = false;
};

Task<void> stopOnSignal(UringReactor& reactor, Event& stop, const Serving& s) {
  while (int signal = co_await reactor.nextSignal()) {
    // Nothing is mounted yet, and the servers forget a client that they do not hear from.
    if (!s.mounted) std::_Exit(128 + signal);
    stop.set();
  }
}

// The mount is there: leave the terminal, and tell who waits.
void detach(Env& env, Serving& s) {
  s.mounted = true;
  env.log.setLevel(s.level);
  if (!s.logFile.empty()) {
    ::setsid();
    [[maybe_unused]] int root = ::chdir("/");
    int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = openLog(s.logFile);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(log >= 0 ? log : null, STDERR_FILENO);
  }
  if (s.readyFd >= 0) {
    [[maybe_unused]] ssize_t n = ::write(s.readyFd, "ready\n", 6);
    ::close(s.readyFd);
  }
}

Task<Result<void>> serveMount(Env& env, UringReactor& reactor, client::MountOptions options,
                              Serving& serving) {
  Event stop(reactor);
  TaskScope scope(reactor);
  scope.spawn(stopOnSignal(reactor, stop, serving));
  auto outcome = co_await client::runMount(env, reactor, std::move(options), stop,
                                           [&env, &serving] { detach(env, serving); });
  reactor.closeSignals();
  co_await scope.join();
  co_return outcome;
}

int serve(const client::MountOptions& options, Serving serving) {
  UringReactor::adoptSignals();
  return runInWorld([&](Env& env, UringReactor& reactor) {
    env.log.setComponent("client");
    // Whoever mounts in the background gets one line if it fails, and no log.
    env.log.setLevel(serving.logFile.empty() ? serving.level : LogLevel::kError);
    return serveMount(env, reactor, options, serving);
  });
}

// Forks before anything else exists (an io_uring belongs to the thread that made it) and returns in
// the parent when the mount is there.
int serveInBackground(const client::MountOptions& options, Serving serving) {
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
    serving.readyFd = ready[1];
    _exit(serve(options, std::move(serving)));
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

std::vector<std::string> splitWords(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) words.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

bool isSetting(const std::string& word) {
  if (word.find('=') == std::string::npos) return false;
  std::string name = "client." + word.substr(0, word.find('='));
  return std::ranges::any_of(clientSettings(), [&](const Setting& s) { return s.name == name; });
}

// Sorts the words of "-o": config=FILE, settings of the [client] section without the section, and
// the rest, which is the mount's.
Result<void> takeOptions(MountArguments& a, client::MountOptions& o) {
  for (const auto& text : a.options)
    for (const auto& word : splitWords(text)) {
      if (isSetting(word)) {
        a.settings.push_back("client." + word);
      } else if (word.starts_with("config=")) {
        a.configFile = word.substr(7);
      } else if (auto known = client::parseMountOptions(word, o); !known && !a.tolerant) {
        return known;
      }
    }
  return {};
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
  LogLevel level = LogLevel::kInfo;
  parseLogLevel(config->text("client.log_level"), level);
  return level;
}

std::string resolved(const std::string& path) {
  char buf[PATH_MAX];
  return ::realpath(path.c_str(), buf) != nullptr ? buf : path;
}

// `mount -o remount`: the kernel changes the flags of the mount that is there. All else stays as it
// is until the filesystem is mounted anew; the options of /etc/fstab come along and are accepted.
Result<void> remount(MountArguments a) {
  // Without a line in /etc/fstab, mount(8) hands back what the kernel says of the mount.
  for (auto& text : a.options) {
    std::string rest;
    for (const auto& word : splitWords(text))
      if (word != "default_permissions" && !word.starts_with("user_id=") &&
          !word.starts_with("group_id=") && !word.starts_with("max_read="))
        rest += "," + word;
    text = std::move(rest);
  }
  client::MountOptions known;
  TRY(takeOptions(a, known));
  constexpr struct {
    const char* word;
    unsigned long set, clear;
  } kFlags[] = {{"ro", MS_RDONLY, 0},
                {"rw", 0, MS_RDONLY},
                {"nosuid", MS_NOSUID, 0},
                {"suid", 0, MS_NOSUID},
                {"nodev", MS_NODEV, 0},
                {"dev", 0, MS_NODEV},
                {"noexec", MS_NOEXEC, 0},
                {"exec", 0, MS_NOEXEC},
                {"sync", MS_SYNCHRONOUS, 0},
                {"async", 0, MS_SYNCHRONOUS},
                {"dirsync", MS_DIRSYNC, 0},
                {"noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME},
                {"atime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
                {"relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
                {"nostrictatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
                {"strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME},
                {"nodiratime", MS_NODIRATIME, 0},
                {"diratime", 0, MS_NODIRATIME}};
  unsigned long flags = MS_REMOUNT;
  for (const auto& text : a.options)
    for (const auto& word : splitWords(text))
      for (const auto& f : kFlags)
        if (word == f.word) flags = (flags & ~f.clear) | f.set;
  const std::string directory = resolved(a.directory);
  if (::mount(nullptr, directory.c_str(), nullptr, flags, nullptr) == 0) return {};
  switch (const int err = errno; err) {
    case EBUSY:
      return fail(Errc::kBusy, directory + ": files are open for writing; close them (fuser -vm " +
                                   directory + " shows by whom), then remount it");
    case EINVAL:
      return fail(Errc::kInvalid, directory + ": nothing is mounted here that could be remounted");
    case EPERM:
      return fail(Errc::kPermission, directory + ": only root may remount it");
    default:
      return fail(errnoError(err, directory));
  }
}

int mountIt(MountArguments a) {
  client::MountOptions o;
  auto level = [&]() -> Result<LogLevel> {
    TRY(takeOptions(a, o));
    return applyConfig(a, o);
  }();
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
  o.directory = resolved(a.directory);
  if (auto ok = client::checkMountPoint(o.directory); !ok) {
    printError(ok.error());
    return 1;
  }
  if (a.foreground) return serve(o, {*level, a.readyFd, a.logFile});
  return serveInBackground(
      o, {*level, a.readyFd, a.logFile.empty() ? defaultLogFile(o.directory) : a.logFile});
}

bool asksForRemount(const MountArguments& a) {
  return std::ranges::any_of(a.options, [](const std::string& text) {
    const auto words = splitWords(text);
    return std::ranges::find(words, "remount") != words.end();
  });
}

int mountOrRemount(const MountArguments& a) {
  if (!asksForRemount(a)) return mountIt(a);
  auto done = remount(a);
  if (!done) printError(done.error());
  return done ? 0 : 1;
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
  c->callback([a, &exitCode] { exitCode = mountOrRemount(*a); });
}

int mountHelperMain(int argc, char** argv) {
  constexpr const char* kUsage = "usage: mount.cairn ADDR[,ADDR...] DIR [-sfnv] [-o OPTS]\n";
  MountArguments a;
  std::vector<std::string> words;
  bool pretend = false;
  for (int i = 1; i < argc; ++i) {
    std::string w = argv[i];
    if (w == "-h" || w == "--help") {
      std::printf("%sCalled by mount(8) for `mount -t cairn`; see mount.cairn(8).\n", kUsage);
      return 0;
    }
    if (w == "-o" || w == "-t" || w == "-N") {
      if (++i == argc) {
        std::fprintf(stderr, "mount.cairn: %s needs a value\n%s", w.c_str(), kUsage);
        return 2;
      }
      if (w == "-o") a.options.emplace_back(argv[i]);
    } else if (w.size() > 1 && w[0] == '-') {
      if (size_t bad = w.find_first_not_of("sfnv", 1); bad != std::string::npos) {
        std::fprintf(stderr, "mount.cairn: -%c is not known\n%s", w[bad], kUsage);
        return 2;
      }
      // -n (no mtab) and -v (verbose) change nothing here.
      a.tolerant = a.tolerant || w.find('s') != std::string::npos;
      pretend = pretend || w.find('f') != std::string::npos;
    } else {
      words.push_back(w);
    }
  }
  if (words.size() != 2) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (pretend) return 0;  // mount --fake: do everything but mount
  a.source = words[0];
  a.directory = words[1];
  return mountOrRemount(a);
}

}  // namespace cairn::tools
