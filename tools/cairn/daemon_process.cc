// Starting, watching and stopping the processes of an embedded cluster.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "tools/cairn/embedded.h"

namespace cairn::tools {

namespace {

// The last non-empty line that was written to `file` from `offset` on.
std::string lastLine(const std::string& file, off_t offset) {
  std::ifstream in(file);
  in.seekg(offset);
  std::string line, last;
  while (std::getline(in, line))
    if (!line.empty()) last = line;
  return last;
}

int remainingMs(std::chrono::steady_clock::time_point deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

// In the child between fork and exec: only async-signal-safe calls.
[[noreturn]] void becomeDaemon(int log, char* const* argv) {
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv(argv[0], argv);
  ::_exit(127);
}

// Whether the process is ending: of one that was killed the first thread may be gone while others
// still hold its files, and the locks on them.
bool isEnding(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  if (!std::getline(in, stat)) return true;
  const size_t name = stat.rfind(')');  // the state follows the program's name, proc(5)
  return name == std::string::npos || name + 2 >= stat.size() || stat[name + 2] == 'Z' ||
         stat[name + 2] == 'X';
}

// Whether the last thread of the process has ended by then.
bool endsWithin(int pid, int seconds) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return true;  // it is gone
  pollfd p{fd, POLLIN, 0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int n = 0;
  while ((n = ::poll(&p, 1, remainingMs(deadline))) < 0 && errno == EINTR) {
  }
  ::close(fd);
  return n != 0;
}

}  // namespace

DaemonProcess::DaemonProcess(const Embedded& cluster, std::string name)
    : name_(std::move(name)),
      pidFile_(cluster.path("run/" + name_ + ".pid")),
      logFile_(cluster.path("log/" + name_ + ".log")) {}

std::optional<int> DaemonProcess::running() const {
  int fd = ::open(pidFile_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::optional<int> pid;
  // The daemon inherited a descriptor that holds the lock; it cannot outlive the process, as a
  // number in a file can.
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0) {
    char buf[32] = "";
    ssize_t n = ::read(fd, buf, sizeof buf - 1);
    if (n > 0) pid = std::atoi(buf);
    constexpr int kPatienceSec = 30;
    if (pid && isEnding(*pid) && endsWithin(*pid, kPatienceSec) &&
        ::flock(fd, LOCK_SH | LOCK_NB) == 0)
      pid.reset();
  }
  ::close(fd);
  return pid;
}

Result<void> DaemonProcess::start(const std::vector<std::string>& argv, int timeoutSec) const {
  int pidFd = ::open(pidFile_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (pidFd < 0) return fail(errnoError(errno, pidFile_));
  if (::flock(pidFd, LOCK_EX | LOCK_NB) != 0) {
    ::close(pidFd);
    return fail(Errc::kBusy, name_ + " runs already");
  }
  int log = ::open(logFile_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    int err = errno;
    ::close(pidFd);
    return fail(errnoError(err, logFile_));
  }
  off_t logStart = ::lseek(log, 0, SEEK_END);
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) {
    int err = errno;
    ::close(pidFd);
    ::close(log);
    return fail(errnoError(err, "pipe"));
  }

  std::vector<std::string> words = argv;
  words.push_back("--ready-fd");
  words.push_back(std::to_string(ready[1]));
  std::vector<char*> pointers;
  for (auto& w : words) pointers.push_back(w.data());
  pointers.push_back(nullptr);

  pid_t pid = ::fork();
  if (pid == 0) {
    ::fcntl(ready[1], F_SETFD, 0);
    ::fcntl(pidFd, F_SETFD, 0);  // keeps the lock for as long as the daemon lives
    becomeDaemon(log, pointers.data());
  }
  int forkErr = errno;
  ::close(ready[1]);
  ::close(log);
  if (pid < 0) {
    ::close(ready[0]);
    ::close(pidFd);
    return fail(errnoError(forkErr, "fork"));
  }
  std::string text = std::to_string(pid) + "\n";
  bool recorded = ::ftruncate(pidFd, 0) == 0 && ::pwrite(pidFd, text.data(), text.size(), 0) > 0;
  ::close(pidFd);
  if (!recorded) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    ::close(ready[0]);
    return fail(Errc::kNoSpace, pidFile_ + ": cannot be written");
  }

  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeoutSec);
  std::string got;
  bool timedOut = false;
  while (got.find('\n') == std::string::npos) {
    pollfd p{ready[0], POLLIN, 0};
    int n = ::poll(&p, 1, remainingMs(deadline));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) {
      timedOut = true;
      break;
    }
    char buf[256];
    ssize_t r = ::read(ready[0], buf, sizeof buf);
    if (r <= 0) break;
    got.append(buf, static_cast<size_t>(r));
  }
  ::close(ready[0]);
  if (got.starts_with("ready")) return {};
  if (timedOut) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(Errc::kTimeout, name_ + " was not ready after " + std::to_string(timeoutSec) +
                                    " s and was stopped; its log is " + logFile_);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  std::string why = lastLine(logFile_, logStart);
  if (why.empty()) return fail(Errc::kIo, name_ + " ended at once; its log is " + logFile_);
  return fail(Errc::kUnavailable, why);
}

Result<void> DaemonProcess::awaitEnd(int timeoutSec) const {
  auto pid = running();
  if (!pid) return {};
  if (!endsWithin(*pid, timeoutSec))
    return fail(Errc::kTimeout, name_ + " (process " + std::to_string(*pid) +
                                    ") has not ended after " + std::to_string(timeoutSec) +
                                    " s; its log is " + logFile_);
  return {};
}

Result<void> DaemonProcess::stop(int signal, int timeoutSec) const {
  auto pid = running();
  if (!pid) return {};
  if (::kill(*pid, signal) != 0 && errno != ESRCH)
    return fail(errnoError(errno, name_ + " (process " + std::to_string(*pid) + ")"));
  return awaitEnd(timeoutSec);
}

}  // namespace cairn::tools
