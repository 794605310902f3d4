#include "common/disk/open_direct.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "common/base/assert.h"
#include "common/base/units.h"

namespace cairn {

namespace {

std::string sizeText(uint64_t bytes) {
  if (bytes < kGiB) return std::to_string(bytes / kMiB) + " MiB";
  uint64_t tenths = bytes / (kGiB / 10);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GiB";
}

std::string parentOf(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// What is open and, until commit(), what has to be undone.
class Opening {
 public:
  explicit Opening(const std::string& path) : path_(path) {}
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;
  ~Opening() {
    if (made) ::unlink(path_.c_str());
    if (fd >= 0) ::close(fd);
  }
  int commit() {
    made = false;
    return std::exchange(fd, -1);
  }
  int fd = -1;
  bool made = false;

 private:
  const std::string& path_;
};

std::unexpected<Error> openError(const std::string& path, int err, bool creating) {
  std::string what = creating ? "cannot create " + path : "cannot open " + path;
  Error e = errnoError(err, what);
  switch (err) {
    case EBUSY:
      e.message += ". The device is mounted or in use by another process (lsblk, fuser -v " + path +
                   " show by whom)";
      break;
    case EROFS:
      e.message += ". Mount it writable, or choose another directory";
      break;
    case EACCES:
    case EPERM:
      e.message += ". Run as the owner of the file, or change its owner";
      break;
    case ENOENT:
      if (creating) e.message += ". Create the directory " + parentOf(path) + " first";
      break;
    default:
      break;
  }
  return fail(std::move(e));
}

std::unexpected<Error> noDirectIo(const std::string& path) {
  struct statfs fs{};
  std::string name = "the file system";
  if (::statfs(parentOf(path).c_str(), &fs) == 0)
    name = fileSystemName(static_cast<uint64_t>(fs.f_type));
  return fail(Errc::kNotSupported, path + " is on " + name +
                                       ", which refuses direct I/O (O_DIRECT). Use a directory on "
                                       "ext4, xfs or btrfs, or a block device");
}

// The kernel takes down the ring of a killed process after the process is gone, and the ring holds
// its files, so the lock of a predecessor that was just killed ends a moment after it: a restart
// must not fail for that. There is nothing to wait on but the lock itself, for three seconds.
constexpr auto kRetryPause = 10ms;
constexpr int kRetries = 300;

// Calls `attempt`, which gives 0 or an errno, until it gives something else than `busy`.
template <class Attempt>
int whileBusy(int busy, Attempt attempt) {
  for (int retries = 0;;) {
    int err = attempt();
    if (err == EINTR) continue;
    if (err != busy || retries++ == kRetries) return err;
    std::this_thread::sleep_for(kRetryPause);
  }
}

Result<void> lockFile(const std::string& path, int fd) {
  int err =
      whileBusy(EWOULDBLOCK, [fd] { return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno; });
  if (err == 0) return {};
  if (err == EWOULDBLOCK)
    return fail(Errc::kBusy, path + " is in use by another process (fuser -v " + path +
                                 " shows which). Stop that one first");
  return fail(errnoError(err, "cannot lock " + path));
}

// fallocate(2) on ext4 takes all the free space before it finds that there is too little; so ask
// first. Only fallocate itself is the judge in the end: others allocate at the same time. What the
// filesystem keeps for some user is not for us, also where we are that user.
Result<void> reserveSpace(const std::string& path, int fd, uint64_t bytes) {
  struct statfs fs{};
  if (::fstatfs(fd, &fs) != 0) return fail(errnoError(errno, "cannot look at " + path));
  uint64_t freeBytes = uint64_t{fs.f_bavail} * static_cast<uint64_t>(fs.f_frsize);
  int err = freeBytes < bytes ? ENOSPC : 0;
  while (err == 0 && ::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0)
    if (errno != EINTR) err = errno;
  if (err == 0) return {};
  Error e = errnoError(err, "cannot reserve " + sizeText(bytes) + " for " + path);
  if (err == ENOSPC)
    e.message += ". " + sizeText(freeBytes) + " are free: free some, or choose a smaller size";
  if (err == EOPNOTSUPP)
    e.message += " on " + fileSystemName(static_cast<uint64_t>(fs.f_type)) +
                 ". Use a directory on ext4, xfs or btrfs, or a block device";
  if (err == EFBIG) e.code = Errc::kTooBig;
  return fail(std::move(e));
}

Result<void> writeZeros(const std::string& path, int fd, uint64_t bytes) {
  constexpr size_t kStep = 4 * kMiB;
  std::unique_ptr<void, decltype(&std::free)> zeros(std::aligned_alloc(kBlockSize, kStep),
                                                    &std::free);
  CAIRN_ASSERT(zeros != nullptr, "memory for a buffer");
  std::memset(zeros.get(), 0, kStep);
  for (uint64_t at = 0; at < bytes;) {
    ssize_t n =
        ::pwrite(fd, zeros.get(), std::min<uint64_t>(kStep, bytes - at), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(errnoError(n < 0 ? errno : EIO, "cannot write zeros to " + path));
    at += static_cast<uint64_t>(n);
  }
  return {};
}

Result<void> syncParent(const std::string& path) {
  std::string parent = parentOf(path);
  int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int err = fd < 0 || ::fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) ::close(fd);
  if (err != 0) return fail(errnoError(err, "cannot sync directory " + parent));
  return {};
}

Result<uint64_t> deviceSize(const std::string& path, int fd) {
  int sector = 0;
  uint64_t size = 0;
  if (::ioctl(fd, BLKSSZGET, &sector) != 0 || ::ioctl(fd, BLKGETSIZE64, &size) != 0)
    return fail(errnoError(errno, "cannot read the size of " + path));
  if (static_cast<uint64_t>(sector) > kBlockSize)
    return fail(Errc::kNotSupported, path + " has sectors of " + std::to_string(sector) +
                                         " bytes; at most 4096 are supported");
  return size;
}

}  // namespace

std::string fileSystemName(uint64_t type) {
  // From linux/magic.h and statfs(2).
  switch (type) {
    case 0xef53:
      return "ext4";
    case 0x58465342:
      return "xfs";
    case 0x9123683e:
      return "btrfs";
    case 0x01021994:
      return "tmpfs";
    case 0x858458f6:
      return "ramfs";
    case 0x794c7630:
      return "overlayfs";
    case 0x6969:
      return "nfs";
    case 0x65735546:
      return "a FUSE file system";
    case 0x01021997:
      return "9p";
    case 0x2fc12fc1:
      return "zfs";
    case 0xf15f:
      return "ecryptfs";
    case 0x9fa0:
      return "procfs";
    case 0x62656572:
      return "sysfs";
    case 0x4d44:
      return "vfat";
    case 0x73717368:
      return "squashfs";
    default: {
      char text[64];
      std::snprintf(text, sizeof text, "a file system of type 0x%llx",
                    static_cast<unsigned long long>(type));
      return text;
    }
  }
}

Result<DirectFile> openDirect(const std::string& path, const OpenOptions& options) {
  Opening file(path);
  const bool creating = options.createBytes.has_value();
  int flags = O_DIRECT | O_CLOEXEC | (options.writable || creating ? O_RDWR : O_RDONLY);
  if (creating) {
    CAIRN_ASSERT(*options.createBytes % kBlockSize == 0 && options.zeroBytes % kBlockSize == 0 &&
                     options.zeroBytes <= *options.createBytes,
                 "files are made of whole blocks");
    flags |= O_CREAT | O_EXCL;
  } else {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return openError(path, errno, false);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
      return fail(Errc::kInvalid, path + " is neither a regular file nor a block device");
    if (S_ISBLK(st.st_mode) && options.exclusive) flags |= O_EXCL;
  }

  int err = whileBusy(EBUSY, [&] {
    file.fd = ::open(path.c_str(), flags, 0600);
    return file.fd >= 0 ? 0 : errno;
  });
  if (err != 0) {
    if (err == EINVAL) {
      // The kernel refuses O_DIRECT only after it has made the file. O_EXCL says that we made it.
      if (creating) ::unlink(path.c_str());
      return noDirectIo(path);
    }
    return openError(path, err, creating);
  }
  file.made = creating;

  struct stat st{};
  if (::fstat(file.fd, &st) != 0) return openError(path, errno, creating);
  const bool device = S_ISBLK(st.st_mode);
  if (options.exclusive && !device) TRY(lockFile(path, file.fd));

  uint64_t size = static_cast<uint64_t>(st.st_size);
  if (device) {
    auto bytes = deviceSize(path, file.fd);
    TRY(bytes);
    size = *bytes;
  }
  if (creating) {
    size = *options.createBytes;
    if (size > 0) TRY(reserveSpace(path, file.fd, size));
    TRY(writeZeros(path, file.fd, options.zeroBytes));
    if (::fsync(file.fd) != 0) return fail(errnoError(errno, "cannot sync " + path));
    TRY(syncParent(path));
  }
  return DirectFile{file.commit(), size};
}

Result<bool> makeDirectories(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno == ENOENT && parentOf(path) != path) {
      auto parent = makeDirectories(parentOf(path));
      TRY(parent);
      if (*parent) return makeDirectories(path);
      // The parent is there and yet takes no directory, as in /proc.
      return fail(errnoError(ENOENT, "cannot make directory " + path));
    }
    struct stat st{};
    if (errno == EEXIST && ::stat(path.c_str(), &st) == 0) {
      if (S_ISDIR(st.st_mode)) return false;
      return fail(Errc::kNotDirectory, path + " exists and is not a directory");
    }
    return fail(errnoError(errno, "cannot make directory " + path));
  }
  TRY(syncParent(path));
  return true;
}

Result<void> removePath(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && (errno != EISDIR || ::rmdir(path.c_str()) != 0))
    return fail(errnoError(errno, "cannot remove " + path));
  return syncParent(path);
}

Result<uint64_t> freeSpace(const std::string& path) {
  struct statvfs st{};
  if (::statvfs(path.c_str(), &st) != 0)
    return fail(errnoError(errno, "cannot ask for the free space of " + path));
  return uint64_t{st.f_bavail} * st.f_frsize;
}

}  // namespace cairn
