#include "client/fuse/edge.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/fuse/errno_map.h"
#include "client/fuse/newer_ops.h"
#include "common/logging/log.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include <kj/exception.h>
// clang-format on

namespace cairn::client {

namespace {

constexpr size_t kMaxWrite = 1 * kMiB;                   // the kernel's limit
constexpr size_t kReceiveBytes = kMaxWrite + 64 * kKiB;  // and room for headers
constexpr size_t kSliceFrom =
    64 * kKiB;  // smaller writes are copied: a slice pins the whole buffer
constexpr unsigned kMaxBackground = 256;
constexpr int kRequestsPerTurn = 32;  // then others of this thread get a turn

// Of the kernel's protocol, newer than libfuse's headers.
constexpr unsigned kMinorWithEpochs = 44;
constexpr int32_t kNotifyIncEpoch = 8;  // FUSE_NOTIFY_INC_EPOCH

// What no process can read, not even the kernel for us.
void* unreadable() {
  static void* const page = ::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page;
}

// The part of fuse_init_out that is changed here.
constexpr size_t kInitFlags = 12, kInitFlags2 = 32;  // offsets
constexpr uint32_t kInitExt = 1u << 30;              // FUSE_INIT_EXT: flags2 counts
constexpr uint32_t kDirectIoAllowMmap = 1u << 4;     // FUSE_DIRECT_IO_ALLOW_MMAP, above 32 bits

// libfuse's writev, which answers INIT with one flag more than libfuse knows: a file that is opened
// with FOPEN_DIRECT_IO may be mapped.
ssize_t writeToKernel(int fd, iovec* iov, int count, void* userdata) {
  auto& edge = *static_cast<FuseEdge*>(userdata);
  fuse_out_header header;
  std::memcpy(&header, iov[0].iov_base, sizeof header);
  // What nobody asked for is written by threads of the pool, too.
  if (header.unique == 0) return ::writev(fd, iov, count);
  if (!edge.expected(header.unique)) {
    errno = ENOENT;  // as the kernel says of requests that it does not know
    return -1;
  }
  edge.answering(header.unique);
  if (edge.firstAnswer() && count == 2 && iov[1].iov_len >= kInitFlags2 + sizeof(uint32_t)) {
    auto add = [&](size_t at, uint32_t flag) {
      uint32_t flags = 0;
      auto* field = static_cast<char*>(iov[1].iov_base) + at;
      std::memcpy(&flags, field, sizeof flags);
      flags |= flag;
      std::memcpy(field, &flags, sizeof flags);
    };
    add(kInitFlags, kInitExt);
    add(kInitFlags2, kDirectIoAllowMmap);
  }
  return ::writev(fd, iov, count);
}
ssize_t readFromKernel(int fd, void* to, size_t size, void*) {
  return ::read(fd, to, size);
}

void initCallback(void* userdata, fuse_conn_info* conn) {
  static_cast<FuseEdge*>(userdata)->greeted(conn->proto_minor >= kMinorWithEpochs);
  // Splicing lost against copying in every measurement, and the kernel's write-back cache would own
  // size and mtime, which the MDS must.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                       FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
  // The kernel takes S_ISUID and S_ISGID off what is written, truncated or given away, and says so
  // with a setattr; libfuse would promise by default that we do it. Where it goes past its pages or
  // leaves the truncation to open, it is up to us (Writing, open).
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_HANDLE_KILLPRIV);
  for (unsigned cap :
       {FUSE_CAP_ASYNC_READ, FUSE_CAP_ASYNC_DIO, FUSE_CAP_ATOMIC_O_TRUNC, FUSE_CAP_PARALLEL_DIROPS,
        FUSE_CAP_READDIRPLUS, FUSE_CAP_READDIRPLUS_AUTO, FUSE_CAP_EXPORT_SUPPORT,
        FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_CACHE_SYMLINKS, FUSE_CAP_POSIX_ACL, FUSE_CAP_DONT_MASK})
    conn->want |= conn->capable & cap;
  conn->max_write = kMaxWrite;
  conn->max_read = kMaxWrite;  // as in the mount options, or libfuse refuses
  conn->max_background = kMaxBackground;
  conn->congestion_threshold = kMaxBackground * 3 / 4;
  conn->time_gran = 1;
}

void forgetCallback(fuse_req_t request, fuse_ino_t ino, uint64_t count) {
  FuseEdge::of(request).entriesForgotten(ino, count);
  fuse_reply_none(request);
}
void forgetMultiCallback(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i)
    FuseEdge::of(request).entriesForgotten(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(request);
}

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops table = [] {
    fuse_lowlevel_ops ops{};
    ops.init = initCallback;
    ops.forget = forgetCallback;
    ops.forget_multi = forgetMultiCallback;
    addNamespaceOps(ops);
    addAttributeOps(ops);
    addFileOps(ops);
    addLockOps(ops);
    addDirectoryOps(ops);
    return ops;
  }();
  return table;
}

// For those who may outlive the edge.
Task<void> waitFor(std::shared_ptr<Event> event) {
  co_await event->wait();
}

// libfuse says on standard error what went wrong while it mounts; here that becomes the message of
// the error. As root; for others fusermount3, a program of its own, writes a line itself.
class FuseSays {
 public:
  FuseSays() {
    text().clear();
    fuse_set_log_func([](fuse_log_level, const char* format, va_list arguments) {
      char line[512];
      std::vsnprintf(line, sizeof line, format, arguments);
      text() += line;  // it says one thing in several pieces
      while (!text().empty() && text().back() == '\n') text().pop_back();
    });
  }
  FuseSays(const FuseSays&) = delete;
  FuseSays& operator=(const FuseSays&) = delete;
  ~FuseSays() { fuse_set_log_func(nullptr); }
  [[nodiscard]] std::string orElse(std::string other) const {
    return text().empty() ? std::move(other) : text();
  }

 private:
  static std::string& text() {
    static std::string last;  // of the reactor's thread, which is the only one that mounts
    return last;
  }
};

}  // namespace

FuseEdge::FuseEdge(Env& e, UringReactor& r, Filesystem& f)
    : env(e),
      reactor(r),
      fs(f),
      underWay_(r, kMaxBackground),
      gone_(r),
      scope_(r),
      drops_(
          r, scope_, [this](InodeId ino) { return fs.pageWaits(ino); },
          [this](InodeId ino, std::shared_ptr<PageDrops::Walk> walk) {
            return dropPages(ino, std::move(walk));
          }) {
  fs.onForget = [this](InodeId ino, Filesystem::Cached what) { return forget(ino, what); };
  fs.onDataChanged = [this](InodeId ino) {
    (void)forgetAttr(ino);  // it is being asked about: the kernel has it
    startDrop(ino);
  };
  fs.onPageWait = [this](InodeId) { drops_.pageWait(); };
  fs.onWriteWait = [this](InodeId ino) { (void)forgetAttr(ino); };  // the kernel has it open
  fs.onLateWrite = [this](InodeId ino, Filesystem::PageWait pages) {
    if (!mounted_) return;
    (void)forgetAttr(ino);
    scope_.spawn(drops_.drop(ino, {pages.from, pages.to}));
  };
  fs.onHearCloses = [this](InodeId ino) {
    auto heard = std::make_shared<Event>(reactor);
    if (mounted_)
      scope_.spawn(hearCloses(ino, heard));
    else
      heard->set();
    return waitFor(std::move(heard));
  };
}

FuseEdge::~FuseEdge() {
  fs.onForget = {};
  fs.onDataChanged = {};
  fs.onPageWait = {};
  fs.onWriteWait = {};
  fs.onLateWrite = {};
  fs.onHearCloses = {};
  if (ready_ >= 0) ::close(ready_);
  if (quit_ >= 0) ::close(quit_);
  if (session_ == nullptr) return;
  fuse_session_unmount(session_);  // if there is still a mount; frees what libfuse keeps of it
  fuse_session_destroy(session_);
}

Result<void> FuseEdge::mount(const std::string& directory,
                             const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  std::string program = "cairn";
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (auto& a : copies) argv.push_back(a.data());
  FuseSays said;
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(argv.size()), argv.data());
  session_ = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr)
    return fail(Errc::kInvalid, directory + ": libfuse refused a mount option (" +
                                    said.orElse("no reason given") + "); see mount.cairn(8)");
  if (fuse_session_mount(session_, directory.c_str()) != 0)
    return fail(Errc::kIo, directory + ": cannot mount: " +
                               said.orElse("fusermount3 has said why; is it installed, and "
                                           "allowed to mount here? See fuse(8)"));
  mounted_ = true;
  int fd = fuse_session_fd(session_);
  if (::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
    return fail(errnoError(errno, directory + ": /dev/fuse descriptor"));
  fuse_custom_io io{};
  io.writev = writeToKernel;
  io.read = readFromKernel;
  if (int err = fuse_session_custom_io(session_, &io, fd); err != 0)
    return fail(errnoError(-err, directory + ": libfuse"));
  ready_ = ::epoll_create1(EPOLL_CLOEXEC);
  quit_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ready_ < 0 || quit_ < 0)
    return fail(errnoError(errno, directory + ": cannot wait for events"));
  for (int one : {fd, quit_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(ready_, EPOLL_CTL_ADD, one, &event) != 0)
      return fail(errnoError(errno, directory + ": cannot wait for requests"));
  }
  return {};
}

void FuseEdge::quit() {
  fuse_session_exit(session_);
  const uint64_t one = 1;
  (void)!::write(quit_, &one, sizeof one);
}

Task<void> FuseEdge::serve() {
  scope_.spawn(dismissCallers());
  while (fuse_session_exited(session_) == 0) {
    if (takeRequests() == Taken::kGone) break;
    int events = co_await reactor.pollFd(ready_, POLLIN);
    if (events < 0 && events != -EINTR) break;
  }
  mounted_ = false;  // the kernel has taken it down
  gone_.set();
  for (auto& [unique, say] : std::exchange(onGivenUp, {})) say();
  co_await scope_.join();
}

FuseEdge::Taken FuseEdge::takeRequests() {
  const int fd = fuse_session_fd(session_);
  for (int n = 0; n < kRequestsPerTurn; ++n) {
    if (fuse_session_exited(session_) != 0) return Taken::kGone;
    if (receive_.empty() || receiveTaken_) receive_ = env.buffers.get(kReceiveBytes);
    receiveTaken_ = false;
    fuse_buf buf{};
    buf.mem = receive_.data();
    buf.size = receive_.size();
    ssize_t got = ::read(fd, receive_.data(), receive_.size());
    if (got < 0) {
      if (errno == EINTR || errno == ENOENT)
        continue;  // ENOENT: the request was interrupted before it was read
      if (errno == EAGAIN) return Taken::kAll;
      if (errno != ENODEV)
        env.log.error("reading /dev/fuse failed", {{"reason", std::strerror(errno)}});
      return Taken::kGone;
    }
    buf.size = static_cast<size_t>(got);
    callers_.asked({receive_.data(), buf.size}, reactor.now());
    underWay_.asked({receive_.data(), buf.size});
    if (takeNewer(*this, {receive_.data(), buf.size})) continue;
    taking_ = reinterpret_cast<const fuse_in_header*>(receive_.data())->unique;
    fuse_session_process_buf(session_, &buf);
  }
  return Taken::kSome;
}

Task<void> FuseEdge::takeAllRequests() {
  while (mounted_) {
    const Taken taken = takeRequests();
    if (taken == Taken::kGone) co_return;
    if (taken == Taken::kSome)
      co_await yield(reactor);
    else if (underWay_.full())
      co_await underWay_.nextAnswer();
    else
      co_return;
  }
}

// Closes that are over have been queued, behind each other, or will be when a read or write of the
// file is answered. Runs from the loop: nobody is in the middle of taking up a request.
Task<void> FuseEdge::hearCloses(InodeId ino, std::shared_ptr<Event> heard) {
  co_await takeAllRequests();
  co_await underWay_.ended(ino);
  co_await takeAllRequests();
  co_await yield(reactor);  // behind the start of what was taken up
  heard->set();
}

void FuseEdge::run(fuse_req_t request, const char* op, Task<Result<void>> task) {
  scope_.spawn(answered(request, env.metrics.op(op), std::move(task)));
}

void FuseEdge::run(uint64_t unique, const char* op, Task<Result<void>> task) {
  scope_.spawn(answered(unique, env.metrics.op(op), std::move(task)));
}

// The errno that is still to be answered; 0: the task has replied.
Task<int> FuseEdge::outcome(OpMetrics& metrics, Task<Result<void>> task) {
  OpTimer timer(metrics, env.reactor.clock());
  Result<void> result = fail(Errc::kBadMessage, "an answer that cannot be read");
  try {
    result = co_await std::move(task);
  } catch (const kj::Exception&) {  // `result` says it
  }
  timer.done(result);
  if (result) co_return 0;
  const int err = errnoOf(result.error().code);
  if (err == EIO) env.log.warning("I/O error", {{"reason", result.error().text()}});
  co_return err;
}

Task<void> FuseEdge::answered(fuse_req_t request, OpMetrics& metrics, Task<Result<void>> task) {
  if (int err = co_await outcome(metrics, std::move(task)); err != 0) fuse_reply_err(request, err);
}

Task<void> FuseEdge::answered(uint64_t unique, OpMetrics& metrics, Task<Result<void>> task) {
  if (int err = co_await outcome(metrics, std::move(task)); err != 0) answer(unique, err, {});
}

int FuseEdge::answer(uint64_t unique, int error, std::string_view payload) {
  if (!expected(unique)) return -ENOENT;
  return tell(unique, error, payload);
}

int FuseEdge::tell(uint64_t unique, int error, std::string_view payload) {
  answering(unique);
  fuse_out_header header{static_cast<uint32_t>(sizeof header + payload.size()), -error, unique};
  iovec iov[] = {{&header, sizeof header}, {const_cast<char*>(payload.data()), payload.size()}};
  return ::writev(fuse_session_fd(session_), iov, 2) < 0 ? -errno : 0;
}

bool FuseEdge::expected(uint64_t unique) {
  const auto inodes = callers_.swallowed(unique);
  if (!inodes) return true;
  // The kernel takes it for not done. Links and renames change inodes that they do not name.
  forgetNames();
  for (InodeId ino : *inodes)
    if (ino) startDrop(ino);
  scope_.spawn(forgetAllAttrs());
  return false;
}

Task<void> FuseEdge::dismissCallers() {
  constexpr Duration kPatience = 1s;  // with a request, before its caller is looked at
  while (!co_await gone_.waitFor(kPatience))
    for (uint64_t unique : callers_.abandoned(reactor.now() - kPatience)) {
      (void)tell(unique, EINTR, {});
      if (auto given = onGivenUp.extract(unique)) given.mapped()();
    }
}

Buffer FuseEdge::takeWritten(const char* data, size_t size) {
  auto* bytes = reinterpret_cast<const uint8_t*>(data);
  if (size < kSliceFrom) return env.buffers.copyOf({bytes, size});
  receiveTaken_ = true;
  return receive_.slice(static_cast<size_t>(bytes - receive_.data()), size);
}

Task<Result<void>> replyDone(fuse_req_t request, Task<Result<void>> task) {
  CO_TRY(co_await std::move(task));
  fuse_reply_err(request, 0);
  co_return Result<void>{};
}

timespec FuseEdge::timeOf(int64_t ns) {
  timespec t;
  t.tv_sec = ns / 1'000'000'000;
  t.tv_nsec = ns % 1'000'000'000;
  if (t.tv_nsec < 0) {
    t.tv_nsec += 1'000'000'000;
    --t.tv_sec;
  }
  return t;
}

struct stat FuseEdge::statOf(const Attr& a) {
  struct stat st{};
  st.st_ino = a.ino.value;
  st.st_mode = a.mode;
  st.st_nlink = a.nlink;
  st.st_uid = a.uid;
  st.st_gid = a.gid;
  st.st_rdev = a.rdev;
  st.st_size = static_cast<off_t>(S_ISDIR(a.mode) ? kBlockSize : a.size);
  st.st_blksize = static_cast<blksize_t>(kMiB);
  st.st_blocks = static_cast<blkcnt_t>(a.blocks512);
  st.st_atim = timeOf(a.atimeNs);
  st.st_mtim = timeOf(a.mtimeNs);
  st.st_ctim = timeOf(a.ctimeNs);
  return st;
}

namespace {
double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}
}  // namespace

double FuseEdge::attrTimeout(InodeId ino) {
  return dropping(ino) ? 0 : seconds(fs.mayCache(ino));
}

fuse_entry_param FuseEdge::entryOf(const Attr* attr, InodeId parent) {
  fuse_entry_param e{};
  if (epochs_) e.entry_timeout = seconds(fs.mayCache(parent));
  if (attr == nullptr) return e;
  e.ino = attr->ino.value;
  e.generation = attr->generation;
  e.attr = statOf(*attr);
  e.attr_timeout = attrTimeout(attr->ino);
  return e;
}

Task<Result<Attr>> FuseEdge::settledAttr(InodeId ino, bool toRead) {
  while (true) {
    auto attr = co_await fs.getattr(ino, toRead);
    if (!attr) co_return attr;
    if (dropping(ino)) {
      co_await dropped(ino);
    } else if (fs.writeWaits(ino)) {
      co_await fs.writesAdmitted(ino);
    } else if (const auto doubt = fs.sizeDoubt(ino); doubt.growth != 0 && doubt.size != 0) {
      co_await raiseSize(ino, doubt.size);
      fs.sizeRaised(ino, doubt);
    } else {
      co_return attr;
    }
  }
}

// The kernel raises the size before it looks at what it is to store as the last byte, and waits for
// the page before it does: for a request that has it locked.
Task<void> FuseEdge::raiseSize(InodeId ino, uint64_t size) {
  if (!mounted_) co_return;
  co_await offloaded(reactor, [session = session_, ino, size] {
    struct {
      fuse_out_header header;
      fuse_notify_store_out store;
    } told{{sizeof told + 1, FUSE_NOTIFY_STORE, 0}, {ino.value, size - 1, 1, 0}};
    const iovec parts[] = {{&told, sizeof told}, {unreadable(), 1}};
    (void)::writev(fuse_session_fd(session), parts, std::size(parts));  // EFAULT, and done
  });
}

// ---- Forgetting ----

void FuseEdge::entriesForgotten(uint64_t ino, uint64_t count) {
  auto it = known_.find(InodeId(ino));
  if (it == known_.end()) return;  // the root was never given
  if (it->second <= count)
    known_.erase(it);
  else
    it->second -= count;
}

Task<void> FuseEdge::forgetAllAttrs() {
  std::vector<InodeId> all;
  all.reserve(known_.size());
  for (const auto& [ino, entries] : known_) all.push_back(ino);
  return offloaded(reactor, [session = session_, all = std::move(all)] {
    for (InodeId ino : all) fuse_lowlevel_notify_inval_inode(session, ino.value, -1, 0);
  });
}

bool FuseEdge::forgetAttr(InodeId ino) {
  return !mounted_ || fuse_lowlevel_notify_inval_inode(session_, ino.value, -1, 0) != -ENOENT;
}

Task<void> FuseEdge::attrForgotten(InodeId ino) {
  constexpr Duration kPause = 100us;  // a process is woken; it has nothing to wait for
  while (!forgetAttr(ino) && known_.contains(ino)) co_await sleepFor(reactor, kPause);
}

void FuseEdge::forgetNames() {
  if (!mounted_ || !epochs_) return;
  const fuse_out_header header{sizeof header, kNotifyIncEpoch, 0};  // nobody asked for it
  if (::write(fuse_session_fd(session_), &header, sizeof header) < 0)
    env.log.error("the kernel does not forget names", {{"reason", std::strerror(errno)}});
}

void FuseEdge::startDrop(InodeId ino) {
  if (mounted_) scope_.spawn(drops_.drop(ino));
}

Task<void> FuseEdge::dropPages(InodeId ino, std::shared_ptr<PageDrops::Walk> walk) {
  return offloaded(reactor, [session = session_, ino, walk = std::move(walk)] {
    for (const PageDrops::Span& span : walk->spans) {
      if (walk->superseded) return;
      fuse_lowlevel_notify_inval_inode(
          session, ino.value, static_cast<off_t>(span.from),
          span.to == UINT64_MAX ? 0 : static_cast<off_t>(span.to - span.from));
    }
  });
}

Task<void> FuseEdge::forget(InodeId ino, Filesystem::Cached what) {
  // What invalidates makes the kernel disregard answers that no process has taken up yet (edge.h).
  if (what == Filesystem::Cached::kUntold && !dropping(ino)) co_return;
  if (what == Filesystem::Cached::kNames) forgetNames();
  co_await attrForgotten(ino);
  const bool pages = what == Filesystem::Cached::kPages || what == Filesystem::Cached::kUntold;
  if (pages && mounted_) co_await drops_.drop(ino);
}

}  // namespace cairn::client
