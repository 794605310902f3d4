#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/base/assert.h"
#include "common/base/result.h"
#include "common/base/uuid.h"

namespace cairn {

void invariantBroken(const char* condition, const char* file, int line, const char* why) {
  std::fprintf(stderr, "cairn: broken invariant: %s [%s] at %s:%d\n", why, condition, file, line);
  std::abort();
}

std::string_view errcName(Errc code) {
  switch (code) {
    case Errc::kOk:
      return "ok";
    case Errc::kNotFound:
      return "not found";
    case Errc::kExists:
      return "exists already";
    case Errc::kNotDirectory:
      return "not a directory";
    case Errc::kIsDirectory:
      return "is a directory";
    case Errc::kNotEmpty:
      return "directory not empty";
    case Errc::kInvalid:
      return "invalid";
    case Errc::kPermission:
      return "operation not permitted";
    case Errc::kAccess:
      return "permission denied";
    case Errc::kNameTooLong:
      return "name too long";
    case Errc::kTooManyLinks:
      return "too many links";
    case Errc::kNoSpace:
      return "no space left";
    case Errc::kQuota:
      return "quota exceeded";
    case Errc::kReadOnly:
      return "read-only";
    case Errc::kNoAttribute:
      return "no such attribute or data";
    case Errc::kNoBuffer:
      return "buffer too small";
    case Errc::kNotSupported:
      return "not supported";
    case Errc::kCrossDevice:
      return "crosses filesystems";
    case Errc::kBusy:
      return "busy";
    case Errc::kStale:
      return "stale handle";
    case Errc::kTooBig:
      return "too big";
    case Errc::kDeadlock:
      return "deadlock";
    case Errc::kWouldBlock:
      return "would block";
    case Errc::kInterrupted:
      return "interrupted";
    case Errc::kNoLocks:
      return "too many locks";
    case Errc::kLoop:
      return "would form a loop";
    case Errc::kIo:
      return "input/output error";
    case Errc::kCorrupt:
      return "checksum mismatch";
    case Errc::kUnavailable:
      return "unavailable";
    case Errc::kTimeout:
      return "timed out";
    case Errc::kStaleEpoch:
      return "stale map epoch";
    case Errc::kNotLeader:
      return "not the leader";
    case Errc::kBusyTryLater:
      return "too busy";
    case Errc::kCanceled:
      return "canceled";
    case Errc::kBadMessage:
      return "bad message";
    case Errc::kWrongCluster:
      return "wrong cluster";
    case Errc::kVersion:
      return "unknown version";
    case Errc::kSessionExpired:
      return "session expired";
    case Errc::kLeaseLost:
      return "lease lost";
  }
  return "unknown error";
}

std::string Uuid::text() const {
  char buf[40];
  std::snprintf(buf, sizeof buf, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(hi >> 32),
                static_cast<unsigned>(hi >> 16 & 0xffff), static_cast<unsigned>(hi & 0xffff),
                static_cast<unsigned>(lo >> 48),
                static_cast<unsigned long long>(lo & 0xffffffffffff));
  return buf;
}

std::string Error::text() const {
  if (message.empty()) return std::string(errcName(code));
  return message + " (" + std::string(errcName(code)) + ")";
}

namespace {
Errc codeOfErrno(int err) {
  switch (err) {
    case ENOENT:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kExists;
    case ENOTDIR:
      return Errc::kNotDirectory;
    case EISDIR:
      return Errc::kIsDirectory;
    case ENOTEMPTY:
      return Errc::kNotEmpty;
    case EINVAL:
      return Errc::kInvalid;
    case EPERM:
      return Errc::kPermission;
    case EACCES:
      return Errc::kAccess;
    case ENOSPC:
      return Errc::kNoSpace;
    case EDQUOT:
      return Errc::kQuota;
    case EROFS:
      return Errc::kReadOnly;
    case EOPNOTSUPP:
      return Errc::kNotSupported;
    case EBUSY:
    case EADDRINUSE:
      return Errc::kBusy;
    case ECANCELED:
      return Errc::kCanceled;
    case ETIMEDOUT:
      return Errc::kTimeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return Errc::kUnavailable;
    default:
      return Errc::kIo;
  }
}
}  // namespace

Error errnoError(int err, std::string_view what) {
  char buf[128];
  return Error(codeOfErrno(err), std::string(what) + ": " + strerror_r(err, buf, sizeof buf));
}

}  // namespace cairn
