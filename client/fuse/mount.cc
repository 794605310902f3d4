#include "client/fuse/mount.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "client/fuse/access_options.h"
#include "common/logging/log.h"

namespace cairn::client {

namespace {

// Options that say when or by whom something is mounted, which is for mount(8) and systemd, and
// those that ask for what is the case anyway.
constexpr std::array kIgnored = {"noauto", "auto",    "user",  "nouser",   "users",
                                 "group",  "nogroup", "owner", "noowner",  "_netdev",
                                 "nofail", "silent",  "loud",  "defaults", "remount"};
constexpr std::array kIgnoredPrefixes = {"x-", "X-", "user=", "comment="};
// Options that libfuse and the kernel understand.
constexpr std::array kPassed = {"ro",   "nosuid",  "nodev",       "noexec",
                                "sync", "dirsync", "allow_other", "allow_root"};
// Options that take back one given before them, and are the default.
constexpr std::array<std::pair<const char*, const char*>, 5> kTakesBack = {{
    {"rw", "ro"},
    {"suid", "nosuid"},
    {"dev", "nodev"},
    {"exec", "noexec"},
    {"async", "sync"},
}};

template <size_t N>
bool isIn(const std::array<const char*, N>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// MAJ:MIN of the mount at `directory`, from /proc/self/mountinfo: stat(2) would wait for ourselves.
std::string deviceOf(const std::string& directory) {
  std::ifstream in("/proc/self/mountinfo");
  std::string line, device;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    std::string id, parent, dev, root, mountPoint;
    fields >> id >> parent >> dev >> root >> mountPoint;
    if (mountPoint == directory) device = dev;  // the last one is on top
  }
  return device;
}

// The kernel reads ahead 128 KiB by default, INIT cannot raise it, and this window decides what a
// sequential reader gets from servers a millisecond away.
void raiseReadahead(Env& env, const std::string& directory, uint64_t bytes) {
  std::string device = deviceOf(directory);
  if (device.empty()) return;
  std::string path = "/sys/class/bdi/" + device + "/read_ahead_kb";
  std::ofstream out(path);
  out << bytes / kKiB << std::flush;
  if (!out)
    env.log.info("kernel read-ahead stays at its default",
                 {{"reason", "only root may write " + path}});
}

// umount(2) on a pool thread: it waits for write-back, which this thread serves. A busy mount is
// detached and goes when its last user has gone.
Task<void> takeDown(Reactor& reactor, std::string directory) {
  co_await offloaded(reactor, [directory] {
    if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) return;
    if (errno == EBUSY && ::umount2(directory.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0) return;
    const char* argv[] = {"fusermount3", "-u", "-z", "--", directory.c_str(), nullptr};
    pid_t pid = 0;
    if (::posix_spawnp(&pid, argv[0], nullptr, nullptr, const_cast<char**>(argv), environ) == 0)
      ::waitpid(pid, nullptr, 0);
  });
}

// How long an unmount waits for servers that are away and for those who still use the mount.
constexpr Duration kPatience = 30s;

Task<void> takeDownOnStop(Env& env, const std::string& directory, FuseEdge& edge, Filesystem& fs,
                          Event& stop, Event& over) {
  const std::string device = deviceOf(directory);  // while it is listed
  co_await stop.wait();
  if (over.isSet()) co_return;
  co_await takeDown(env.reactor, directory);
  if (co_await over.waitFor(kPatience)) co_return;
  env.log.error("the mount is still in use, or waits for servers that are away: it ends now",
                {{"mount", directory}});
  co_await fs.abandon();
  // The kernel fails what it has not handed over yet. Where its control files are not mounted, that
  // happens when this process ends.
  if (auto colon = device.find(':'); colon != std::string::npos)
    std::ofstream("/sys/fs/fuse/connections/" + device.substr(colon + 1) + "/abort") << "1";
  edge.quit();
}

Task<void> endInTime(Env& env, Filesystem& fs, Event& ended) {
  if (co_await ended.waitFor(kPatience)) co_return;
  env.log.error("servers are away: what was not written back is lost");
  co_await fs.abandon();
}

}  // namespace

Result<void> parseMountOptions(std::string_view text, MountOptions& o) {
  while (!text.empty()) {
    size_t comma = text.find(',');
    std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (word.empty()) continue;
    if (isIn(kIgnored, word) ||
        std::ranges::any_of(kIgnoredPrefixes, [&](auto p) { return word.starts_with(p); }))
      continue;
    if (takeAccessOption(word, o.filesystem.access)) continue;
    if (auto back = std::ranges::find(kTakesBack, word, [](auto& p) { return p.first; });
        back != kTakesBack.end()) {
      std::erase(o.fuse, back->second);
    } else if (isIn(kPassed, word)) {
      o.fuse.emplace_back(word);
    } else {
      return fail(Errc::kInvalid, "mount option \"" + std::string(word) +
                                      "\" is not known; mount.cairn(8) lists them");
    }
  }
  return {};
}

Result<void> checkMountPoint(const std::string& directory) {
  struct stat st{};
  if (::stat(directory.c_str(), &st) != 0) {
    if (errno == ENOTCONN)
      return fail(Errc::kBusy,
                  directory + ": a dead mount is still here; run: fusermount3 -u -z " + directory);
    if (errno == ENOENT)
      return fail(Errc::kNotFound,
                  directory + ": the mount point does not exist; run: mkdir -p " + directory);
    return fail(errnoError(errno, directory));
  }
  if (!S_ISDIR(st.st_mode))
    return fail(Errc::kNotDirectory, directory + ": a mount point must be a directory; choose one");
  std::ifstream in("/proc/self/mountinfo");
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    std::string id, parent, dev, root, mountPoint;
    fields >> id >> parent >> dev >> root >> mountPoint;
    if (mountPoint == directory && line.find(" - fuse.cairn ") != std::string::npos)
      return fail(
          Errc::kBusy,
          directory + ": Cairn is mounted here already; unmount it first: umount " + directory);
  }
  int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    int err = errno;
    if (err == ENOENT || err == ENXIO || err == ENODEV)
      return fail(Errc::kNotSupported,
                  "/dev/fuse is not there: load the kernel module (modprobe fuse), or give the "
                  "container --device /dev/fuse");
    return fail(errnoError(
        err,
        "/dev/fuse cannot be opened: run as root or make it accessible (chmod 666 /dev/fuse)"));
  }
  ::close(fd);
  return {};
}

Task<Result<void>> runMount(Env& env, UringReactor& reactor, MountOptions options, Event& stop,
                            std::function<void()> onMounted) {
  CO_TRY(checkMountPoint(options.directory));
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const AccessPolicy access = options.filesystem.access;
  auto has = [&](std::string_view word) {
    return std::find(options.fuse.begin(), options.fuse.end(), word) != options.fuse.end();
  };
  if (has("ro")) options.filesystem.access.when = AccessPolicy::When::kNever;
  auto fs = co_await Filesystem::mount(
      env, options.filesystem, {options.directory, host, static_cast<uint32_t>(::getpid())});
  CO_TRY(fs);

  std::vector<std::string> arguments = {
      "-o", "fsname=" + options.source +
                ",subtype=cairn,default_permissions,max_read=" + std::to_string(kMiB)};
  bool root = ::geteuid() == 0;
  if (root) {
    // Root's mount is for everybody, with devices and setuid as on any disk, unless told otherwise.
    if (!has("allow_other") && !has("allow_root")) arguments.back() += ",allow_other";
    if (!has("nosuid")) arguments.back() += ",suid";
    if (!has("nodev")) arguments.back() += ",dev";
  }
  for (const auto& f : options.fuse) arguments.back() += "," + f;
  if (access.when == AccessPolicy::When::kNever) arguments.back() += ",noatime";

  Result<void> outcome;
  {
    FuseEdge edge(env, reactor, **fs);
    outcome = edge.mount(options.directory, arguments);
    if (outcome) {
      raiseReadahead(env, options.directory, options.kernelReadaheadBytes);
      if (access != AccessPolicy{})
        if (auto set = setAccessOptions(options.directory, access); !set)
          env.log.info("the kernel's table of mounts does not show all options",
                       {{"reason", set.error().text()}});
      MountTableWatch watch(reactor, **fs, options.directory);
      TaskScope scope(reactor);
      Event over(reactor);
      scope.spawn(takeDownOnStop(env, options.directory, edge, **fs, stop, over));
      scope.spawn(watch.run());
      onMounted();
      co_await edge.serve();
      over.set();
      stop.set();
      watch.end();
      co_await scope.join();
    }
  }
  Event ended(reactor);
  TaskScope watch(reactor);
  watch.spawn(endInTime(env, **fs, ended));
  Result<void> flushed = co_await (*fs)->unmount();
  ended.set();
  co_await watch.join();
  if (!outcome) co_return outcome;
  co_return flushed;
}

}  // namespace cairn::client
