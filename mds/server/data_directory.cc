#include "mds/server/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "common/reactor/clock.h"

namespace cairn::mds {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOurs[] = {"version", "cluster", "meta", "log", "making"};

Error whatFailed(int err, const std::string& what) {
  Error e = errnoError(err, what);
  if (err == EROFS || err == EACCES || err == EPERM)
    e.message += "; make it writable for this user or set mds.data to another directory";
  if (err == ENOSPC) e.message += "; free some space there or set mds.data to another directory";
  return e;
}

std::optional<std::string> readText(const std::string& path) {
  std::ifstream in(path);
  std::string text;
  if (!in || !std::getline(in, text)) return std::nullopt;
  return text;
}

Result<void> syncPath(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return fail(whatFailed(errno, path));
  const bool ok = ::fsync(fd) == 0;
  const int err = errno;
  ::close(fd);
  if (!ok) return fail(whatFailed(err, path));
  return {};
}

Result<void> writeText(const std::string& path, const std::string& text) {
  {
    std::ofstream out(path, std::ios::trunc);
    out << text << "\n";
    out.flush();
    if (!out) return fail(whatFailed(errno != 0 ? errno : EIO, path));
  }
  return syncPath(path, O_RDONLY);
}

std::optional<Uuid> parseUuid(const std::string& text) {
  uint64_t a = 0, b = 0, c = 0, d = 0, e = 0;
  if (std::sscanf(text.c_str(), "%8" SCNx64 "-%4" SCNx64 "-%4" SCNx64 "-%4" SCNx64 "-%12" SCNx64,
                  &a, &b, &c, &d, &e) != 5)
    return std::nullopt;
  const Uuid uuid{a << 32 | b << 16 | c, d << 48 | e};
  if (uuid.text() != text) return std::nullopt;
  return uuid;
}

// Version 4, variant 1 of RFC 4122.
Uuid randomUuid() {
  return {(systemRandom64() & ~0xf000ull) | 0x4000ull,
          (systemRandom64() & ~(3ull << 62)) | (2ull << 62)};
}

}  // namespace

DataDirectory::DataDirectory(DataDirectory&& o) noexcept
    : path_(std::move(o.path_)),
      cluster_(o.cluster_),
      fresh_(o.fresh_),
      madeDirectory_(o.madeDirectory_),
      prepared_(o.prepared_),
      lockFd_(std::exchange(o.lockFd_, -1)) {}

DataDirectory::~DataDirectory() {
  if (lockFd_ >= 0) ::close(lockFd_);
}

Result<DataDirectory> DataDirectory::open(const std::string& path) {
  DataDirectory d(path);
  std::error_code ec;
  const auto status = fs::status(path, ec);
  if (status.type() == fs::file_type::not_found) return d;
  if (ec) return fail(whatFailed(ec.value(), path));
  if (status.type() != fs::file_type::directory)
    return fail(Errc::kInvalid, path + ": is not a directory; set mds.data to one");
  const bool ours = fs::exists(d.at("version"), ec) || fs::exists(d.at("making"), ec);
  if (!ours) {
    // Somebody else's directory is left as it is: not even a lock is put there.
    TRY(d.checkEmpty());
    return d;
  }
  TRY(d.lock());
  TRY(d.readFormat());
  return d;
}

Result<void> DataDirectory::lock() {
  const int fd = ::open(at("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return fail(whatFailed(errno, at("lock")));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int err = errno;
    ::close(fd);
    if (err != EWOULDBLOCK) return fail(whatFailed(err, at("lock")));
    const auto pid = readText(at("lock"));
    return fail(Errc::kBusy, path_ + ": in use by another cairn-mds" +
                                 (pid ? ", process " + *pid : "") +
                                 "; stop that one first or set mds.data to another directory");
  }
  lockFd_ = fd;
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0)
    return fail(whatFailed(errno, at("lock")));
  return {};
}

Result<void> DataDirectory::checkEmpty() const {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(path_, ec))
    if (entry.path().filename() != "lock" && entry.path().filename() != "lost+found")
      return fail(Errc::kInvalid, path_ + ": holds something else (" +
                                      entry.path().filename().string() +
                                      "), no Cairn metadata; set mds.data to an empty or a new "
                                      "directory");
  if (ec) return fail(whatFailed(ec.value(), path_));
  return {};
}

Result<void> DataDirectory::readFormat() {
  std::error_code ec;
  if (fs::exists(at("making"), ec)) return {};  // never got as far as to serve anybody
  const auto version = readText(at("version"));
  if (!version) return fail(Errc::kCorrupt, at("version") + ": cannot be read; put the file back");
  if (*version != std::to_string(kDirectoryFormat))
    return fail(Errc::kVersion, path_ + ": has format " + version->substr(0, 20) +
                                    ", this cairn-mds knows format " +
                                    std::to_string(kDirectoryFormat) +
                                    "; run the release that wrote it, or a newer one");
  const auto text = readText(at("cluster"));
  const auto uuid = text ? parseUuid(*text) : std::nullopt;
  if (!uuid)
    return fail(Errc::kCorrupt, at("cluster") +
                                    ": does not name a cluster; put the file back, it holds the "
                                    "UUID that the OSDs of this cluster log at their start");
  cluster_ = *uuid;
  fresh_ = false;
  return {};
}

void DataDirectory::clear() {
  std::error_code ec;
  for (const char* name : kOurs) fs::remove_all(at(name), ec);
}

Result<void> DataDirectory::prepare() {
  std::error_code ec;
  madeDirectory_ = fs::create_directories(path_, ec);
  if (ec) return fail(whatFailed(ec.value(), "cannot make the directory " + path_));
  if (lockFd_ < 0) TRY(lock());
  if (fs::exists(at("version"), ec) && !fs::exists(at("making"), ec)) {
    ::close(std::exchange(lockFd_, -1));
    return fail(Errc::kBusy, path_ +
                                 ": another cairn-mds has just made its directory there; start "
                                 "again");
  }
  prepared_ = true;
  // The marker first: what an interrupted start leaves behind it is cleared by the next.
  TRY(writeText(at("making"), "this directory is being made"));
  for (const char* name : kOurs)
    if (std::string_view(name) != "making") fs::remove_all(at(name), ec);
  TRY(syncPath(path_, O_RDONLY | O_DIRECTORY));
  cluster_ = randomUuid();
  return {};
}

Result<void> DataDirectory::commit() {
  TRY(writeText(at("cluster"), cluster_.text()));
  TRY(writeText(at("version"), std::to_string(kDirectoryFormat)));
  TRY(syncPath(path_, O_RDONLY | O_DIRECTORY));
  std::error_code ec;
  fs::remove(at("making"), ec);
  if (ec) return fail(whatFailed(ec.value(), at("making")));
  TRY(syncPath(path_, O_RDONLY | O_DIRECTORY));
  fresh_ = false;
  return {};
}

void DataDirectory::discard() {
  std::error_code ec;
  if (prepared_) {  // otherwise what is there is another's
    clear();
    fs::remove(at("lock"), ec);
  }
  if (madeDirectory_) fs::remove(path_, ec);
}

}  // namespace cairn::mds
