#include "client/fuse/edge.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/fuse/errno_map.h"
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

void initCallback(void*, fuse_conn_info* conn) {
  // Splicing lost against copying in every measurement, and the kernel's write-back cache would own
  // size and mtime, which the MDS must.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                       FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
  for (unsigned cap : {FUSE_CAP_ASYNC_READ, FUSE_CAP_ASYNC_DIO, FUSE_CAP_ATOMIC_O_TRUNC,
                       FUSE_CAP_PARALLEL_DIROPS, FUSE_CAP_READDIRPLUS, FUSE_CAP_READDIRPLUS_AUTO,
                       FUSE_CAP_EXPORT_SUPPORT, FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_CACHE_SYMLINKS})
    conn->want |= conn->capable & cap;
  conn->max_write = kMaxWrite;
  conn->max_read = kMaxWrite;  // as in the mount options, or libfuse refuses
  conn->max_background = kMaxBackground;
  conn->congestion_threshold = kMaxBackground * 3 / 4;
  conn->time_gran = 1;
}

void forgetCallback(fuse_req_t request, fuse_ino_t, uint64_t) {
  fuse_reply_none(request);
}
void forgetMultiCallback(fuse_req_t request, size_t, fuse_forget_data*) {
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
    addDirectoryOps(ops);
    return ops;
  }();
  return table;
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

FuseEdge::FuseEdge(Env& e, UringReactor& r, Filesystem& f, EdgeOptions o)
    : env(e), reactor(r), fs(f), options(o), scope_(r) {}

FuseEdge::~FuseEdge() {
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
  return {};
}

Task<void> FuseEdge::serve() {
  int fd = fuse_session_fd(session_);
  bool gone = false;
  while (!gone && fuse_session_exited(session_) == 0) {
    for (int n = 0; n < kRequestsPerTurn; ++n) {
      if (receive_.empty() || receiveTaken_) receive_ = env.buffers.get(kReceiveBytes);
      receiveTaken_ = false;
      fuse_buf buf{};
      buf.mem = receive_.data();
      buf.size = receive_.size();
      ssize_t got = ::read(fd, receive_.data(), receive_.size());
      if (got < 0) {
        if (errno == EINTR || errno == ENOENT)
          continue;  // ENOENT: the request was interrupted before it was read
        if (errno == EAGAIN) break;
        if (errno != ENODEV)
          env.log.error("reading /dev/fuse failed", {{"reason", std::strerror(errno)}});
        gone = true;
        break;
      }
      buf.size = static_cast<size_t>(got);
      fuse_session_process_buf(session_, &buf);
      if (fuse_session_exited(session_) != 0) break;
    }
    if (gone || fuse_session_exited(session_) != 0) break;
    int events = co_await reactor.pollFd(fd, POLLIN);
    if (events < 0 && events != -EINTR) break;
  }
  co_await scope_.join();
  mounted_ = false;  // the kernel has taken it down
}

void FuseEdge::run(fuse_req_t request, const char* op, Task<Result<void>> task) {
  scope_.spawn(answered(request, env.metrics.op(op), std::move(task)));
}

Task<void> FuseEdge::answered(fuse_req_t request, OpMetrics& metrics, Task<Result<void>> task) {
  OpTimer timer(metrics, env.reactor.clock());
  Result<void> result = fail(Errc::kBadMessage, "an answer that cannot be read");
  try {
    result = co_await std::move(task);
  } catch (const kj::Exception&) {  // `result` says it
  }
  timer.done(result);
  if (result) co_return;
  int err = errnoOf(result.error().code);
  if (err == EIO) env.log.warning("I/O error", {{"reason", result.error().text()}});
  fuse_reply_err(request, err);
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

struct stat FuseEdge::statOf(const Attr& a) {
  struct stat st{};
  auto time = [](int64_t ns) {
    timespec t;
    t.tv_sec = ns / 1'000'000'000;
    t.tv_nsec = ns % 1'000'000'000;
    if (t.tv_nsec < 0) {
      t.tv_nsec += 1'000'000'000;
      --t.tv_sec;
    }
    return t;
  };
  st.st_ino = a.ino.value;
  st.st_mode = a.mode;
  st.st_nlink = a.nlink;
  st.st_uid = a.uid;
  st.st_gid = a.gid;
  st.st_rdev = a.rdev;
  st.st_size = static_cast<off_t>(S_ISDIR(a.mode) ? kBlockSize : a.size);
  st.st_blksize = static_cast<blksize_t>(kMiB);
  st.st_blocks = static_cast<blkcnt_t>(a.blocks512);
  st.st_atim = time(a.atimeNs);
  st.st_mtim = time(a.mtimeNs);
  st.st_ctim = time(a.ctimeNs);
  return st;
}

fuse_entry_param FuseEdge::entryOf(const Attr& attr) const {
  fuse_entry_param e{};
  e.ino = attr.ino.value;
  e.generation = attr.generation;
  e.attr = statOf(attr);
  e.attr_timeout = options.attrTimeoutSec;
  e.entry_timeout = options.entryTimeoutSec;
  return e;
}

}  // namespace cairn::client
