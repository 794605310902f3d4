#include "common/net/uring_network.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "common/base/assert.h"
#include "common/net/socket_address.h"

namespace cairn {

namespace {

constexpr size_t kMaxParts = 1024;  // UIO_MAXIOV of the kernel
constexpr int kBacklog = 1024;

// A descriptor until someone takes it over.
class FdGuard {
 public:
  explicit FdGuard(int fd) : fd_(fd) {}
  FdGuard(const FdGuard&) = delete;
  FdGuard& operator=(const FdGuard&) = delete;
  ~FdGuard() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

void setOption(int fd, int level, int option, int value) {
  // None of the options set this way is needed for correctness.
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

void tuneStream(int fd) {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 20);
  setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

class UringStream final : public Stream {
 public:
  UringStream(UringReactor& reactor, int fd, std::string peer)
      : reactor_(reactor), fd_(fd), peer_(std::move(peer)) {}
  ~UringStream() override {
    CAIRN_ASSERT(!reading_ && !writing_, "no operation is in flight when a stream dies");
    ::close(fd_);
  }

  Task<Result<size_t>> read(std::span<const iovec> parts) override {
    CAIRN_ASSERT(!reading_ && !parts.empty(), "one reader at a time, with room to read into");
    if (closed_) co_return canceled();
    reading_ = true;
    UringOp op;
    msghdr msg{};
    int n = -EINTR;
    while (n == -EINTR || n == -EAGAIN) {
      if (parts.size() == 1) {
        io_uring_prep_recv(reactor_.sqe(&op), fd_, parts[0].iov_base, parts[0].iov_len, 0);
      } else {
        msg.msg_iov = const_cast<iovec*>(parts.data());
        msg.msg_iovlen = std::min(parts.size(), kMaxParts);
        io_uring_prep_recvmsg(reactor_.sqe(&op), fd_, &msg, 0);
      }
      n = co_await op;
    }
    reading_ = false;
    if (closed_) co_return canceled();
    if (n < 0) co_return broken(-n);
    co_return static_cast<size_t>(n);
  }

  Task<Result<void>> write(std::span<const iovec> parts) override {
    CAIRN_ASSERT(!writing_, "one writer at a time");
    writing_ = true;
    UringOp op;
    msghdr msg{};
    // With MSG_WAITALL the kernel itself goes on after a short send; the loop is for what is left
    // when it gives up half way, and for more parts than one call takes.
    constexpr int kFlags = MSG_NOSIGNAL | MSG_WAITALL;
    size_t skip = 0;  // bytes of parts[0] that were sent
    std::vector<iovec> rest;
    Result<void> result;
    while (!parts.empty()) {
      if (closed_) {
        result = canceled();
        break;
      }
      if (parts.size() == 1) {
        io_uring_prep_send(reactor_.sqe(&op), fd_, static_cast<uint8_t*>(parts[0].iov_base) + skip,
                           parts[0].iov_len - skip, kFlags);
      } else {
        size_t count = std::min(parts.size(), kMaxParts);
        msg.msg_iov = const_cast<iovec*>(parts.data());
        msg.msg_iovlen = count;
        if (skip > 0) {
          rest.assign(parts.begin(), parts.begin() + static_cast<ptrdiff_t>(count));
          rest[0].iov_base = static_cast<uint8_t*>(rest[0].iov_base) + skip;
          rest[0].iov_len -= skip;
          msg.msg_iov = rest.data();
        }
        io_uring_prep_sendmsg(reactor_.sqe(&op), fd_, &msg, kFlags);
      }
      int n = co_await op;
      if (n == -EINTR || n == -EAGAIN) continue;
      if (n < 0) {
        result = closed_ ? canceled() : broken(-n);
        break;
      }
      skip += static_cast<size_t>(n);
      while (!parts.empty() && skip >= parts[0].iov_len) {
        skip -= parts[0].iov_len;
        parts = parts.subspan(1);
      }
    }
    writing_ = false;
    co_return result;
  }

  void shutdown() override {
    if (closed_) return;
    closed_ = true;
    ::shutdown(fd_, SHUT_RDWR);  // what waits on the socket in the ring wakes up and fails
  }

  [[nodiscard]] std::string peer() const override { return peer_; }

 private:
  [[nodiscard]] std::unexpected<Error> canceled() const {
    return fail(Errc::kCanceled, "the connection to " + peer_ + " was closed at this end");
  }
  [[nodiscard]] std::unexpected<Error> broken(int err) const {
    return fail(Errc::kUnavailable,
                errnoError(err, "the connection to " + peer_ + " broke").message);
  }

  UringReactor& reactor_;
  const int fd_;
  const std::string peer_;
  bool closed_ = false;
  bool reading_ = false;
  bool writing_ = false;
};

class UringListener final : public Listener {
 public:
  UringListener(UringReactor& reactor, int fd, Endpoint at)
      : reactor_(reactor), fd_(fd), at_(std::move(at)) {}
  ~UringListener() override {
    CAIRN_ASSERT(pending_ == nullptr, "no accept is in flight when a listener dies");
    close();
  }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    CAIRN_ASSERT(pending_ == nullptr, "one accept at a time");
    while (!closed_) {
      SocketAddress from;
      from.length = sizeof from.storage;
      UringOp op;
      io_uring_prep_accept(reactor_.sqe(&op), fd_, from.get(), &from.length, SOCK_CLOEXEC);
      pending_ = &op;
      int fd = co_await op;
      pending_ = nullptr;
      if (closed_) {
        if (fd >= 0) ::close(fd);
        closeFd();
        break;
      }
      // The errors of a connection that died before it was taken come out here too: accept(2).
      if (fd == -EINTR || fd == -EAGAIN || fd == -ECONNABORTED || fd == -EPROTO ||
          fd == -ENETDOWN || fd == -EHOSTUNREACH || fd == -ENETUNREACH || fd == -ETIMEDOUT)
        continue;
      if (fd < 0)
        co_return fail(Errc::kUnavailable, errnoError(-fd, "accept on " + at_.text()).message);
      tuneStream(fd);
      co_return std::make_unique<UringStream>(reactor_, fd, from.endpoint().text());
    }
    co_return fail(Errc::kCanceled, "the listener on " + at_.text() + " is closed");
  }

  void close() override {
    if (closed_) return;
    closed_ = true;
    if (pending_ != nullptr)
      reactor_.cancel(*pending_);  // accept() closes the socket when it ends
    else
      closeFd();
  }

  [[nodiscard]] uint16_t port() const override { return at_.port; }

 private:
  void closeFd() {
    ::close(fd_);
    fd_ = -1;
  }
  UringReactor& reactor_;
  int fd_;
  const Endpoint at_;
  UringOp* pending_ = nullptr;
  bool closed_ = false;
};

// The kernel takes down the ring of a killed process a moment after the process is gone (3-17 ms,
// measured), and an accept in flight holds its listener: a daemon that is restarted at once must
// not fail for that.
constexpr auto kPredecessorGone = 1s;

// 0 or errno. Either of the two steps finds the port in use; `bound` says that the first is done.
int bindAndListen(int fd, const SocketAddress& address, bool& bound) {
  if (!bound && ::bind(fd, address.get(), address.length) != 0) return errno;
  bound = true;
  return ::listen(fd, kBacklog) == 0 ? 0 : errno;
}

// A socket whose both ends are itself: TCP connects such a pair when the port that the kernel
// picked happens to be the one that is dialled and nobody listens there. It would keep the real
// daemon from its port.
bool connectedToItself(int fd) {
  SocketAddress local, remote;
  local.length = remote.length = sizeof local.storage;
  if (::getsockname(fd, local.get(), &local.length) != 0) return false;
  if (::getpeername(fd, remote.get(), &remote.length) != 0) return false;
  return local.endpoint() == remote.endpoint();
}

// 0 or -errno; -ETIME when `until` came first.
Task<int> connectOnce(UringReactor& reactor, int fd, const SocketAddress& address,
                      TimePoint until) {
  auto left = (until - reactor.now()).count();
  if (left <= 0) co_return -ETIME;
  __kernel_timespec limit{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
  UringOp connecting;
  reactor.reserve(2);
  io_uring_sqe* sqe = reactor.sqe(&connecting);
  io_uring_prep_connect(sqe, fd, address.get(), address.length);
  sqe->flags |= IOSQE_IO_LINK;
  io_uring_prep_link_timeout(reactor.sqe(nullptr), &limit, 0);
  int result = co_await connecting;
  co_return result == -ECANCELED ? -ETIME : result;
}

std::string milliseconds(Duration d) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(d).count()) + " ms";
}

Error connectError(const Endpoint& to, int err, Duration timeout) {
  std::string what = "cannot connect to " + to.text();
  if (err == ETIME || err == ETIMEDOUT)
    return Error(Errc::kTimeout, what + ": no answer within " + milliseconds(timeout) +
                                     ". Check the address, and that no firewall drops it");
  Error e = errnoError(err, what);
  e.code = Errc::kUnavailable;
  if (err == ECONNREFUSED)
    e.message += ". Nothing listens there: check the address, start the daemon";
  return e;
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> UringNetwork::connect(Endpoint to, Duration timeout) {
  if (to.port == 0)
    co_return fail(Errc::kInvalid, "cannot connect to " + to.text() + ": port 0 is no port");
  std::vector<SocketAddress> addresses(1);
  if (!literalAddress(to, addresses[0])) {
    Result<std::vector<SocketAddress>> found;
    co_await offloaded(reactor_, [&] { found = resolve(to, false); });
    CO_TRY(found);
    addresses = std::move(*found);
  }
  TimePoint until = reactor_.now() + timeout;
  int err = EADDRNOTAVAIL;
  for (const auto& address : addresses) {
    FdGuard fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd.get() < 0) {
      err = errno;
      continue;
    }
    tuneStream(fd.get());
    err = -co_await connectOnce(reactor_, fd.get(), address, until);
    if (err == 0 && connectedToItself(fd.get())) err = ECONNREFUSED;
    if (err == 0)
      co_return std::make_unique<UringStream>(reactor_, fd.release(), address.endpoint().text());
  }
  co_return fail(connectError(to, err, timeout));
}

Result<std::unique_ptr<Listener>> UringNetwork::listen(Endpoint at) {
  auto addresses = resolve(at, true);
  TRY(addresses);
  const SocketAddress& address = addresses->front();
  std::string what = "cannot listen on " + at.text();
  FdGuard fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return fail(errnoError(errno, what));
  // A daemon that restarts takes its port back from connections in TIME_WAIT.
  setOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  bool isBound = false;
  int err = bindAndListen(fd.get(), address, isBound);
  for (TimePoint until = reactor_.now() + kPredecessorGone;
       err == EADDRINUSE && at.port != 0 && reactor_.now() < until;) {
    std::this_thread::sleep_for(5ms);  // nothing runs yet that this would hold up
    err = bindAndListen(fd.get(), address, isBound);
  }
  if (err != 0) {
    if (err == EADDRINUSE) {
      std::string port = std::to_string(at.port);
      return fail(Errc::kBusy,
                  what + ": port " + port +
                      " is in use by another process. Stop that one (ss -ltnp 'sport = :" + port +
                      "' shows it) or choose another port");
    }
    Error e = errnoError(err, what);
    if (err == EADDRNOTAVAIL) {
      e.code = Errc::kInvalid;
      e.message += ". No interface of this machine has that address (ip addr shows them)";
    } else if (err == EACCES) {
      e.message += ". Ports below 1024 are root's: choose a higher one";
    }
    return fail(std::move(e));
  }
  SocketAddress bound;
  bound.length = sizeof bound.storage;
  if (::getsockname(fd.get(), bound.get(), &bound.length) != 0)
    return fail(errnoError(errno, what));
  at.port = bound.endpoint().port;
  return std::make_unique<UringListener>(reactor_, fd.release(), std::move(at));
}

}  // namespace cairn
