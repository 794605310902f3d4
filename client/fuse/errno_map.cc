#include "client/fuse/errno_map.h"

#include <cerrno>

namespace cairn::client {

int errnoOf(Errc code) {
  switch (code) {
    case Errc::kOk:
      return 0;
    case Errc::kNotFound:
      return ENOENT;
    case Errc::kExists:
      return EEXIST;
    case Errc::kNotDirectory:
      return ENOTDIR;
    case Errc::kIsDirectory:
      return EISDIR;
    case Errc::kNotEmpty:
      return ENOTEMPTY;
    case Errc::kInvalid:
      return EINVAL;
    case Errc::kPermission:
      return EPERM;
    case Errc::kAccess:
      return EACCES;
    case Errc::kNameTooLong:
      return ENAMETOOLONG;
    case Errc::kTooManyLinks:
      return EMLINK;
    case Errc::kNoSpace:
      return ENOSPC;
    case Errc::kQuota:
      return EDQUOT;
    case Errc::kReadOnly:
      return EROFS;
    case Errc::kNoAttribute:
      return ENODATA;
    case Errc::kNoBuffer:
      return ERANGE;
    case Errc::kNotSupported:
      return EOPNOTSUPP;
    case Errc::kCrossDevice:
      return EXDEV;
    case Errc::kBusy:
      return EBUSY;
    case Errc::kStale:
      return ESTALE;
    case Errc::kTooBig:
      return EFBIG;
    case Errc::kDeadlock:
      return EDEADLK;
    case Errc::kLoop:
      return EINVAL;  // rename(2): a directory into itself
    case Errc::kWouldBlock:
      return EAGAIN;
    case Errc::kInterrupted:
      return EINTR;
    case Errc::kNoLocks:
      return ENOLCK;
    case Errc::kTimeout:
      return ETIMEDOUT;
    case Errc::kCanceled:
      return ENOTCONN;
    // A daemon that cannot be reached within the mount's patience, or a lie found out, is an I/O
    // error to the application.
    case Errc::kIo:
    case Errc::kCorrupt:
    case Errc::kUnavailable:
    case Errc::kStaleEpoch:
    case Errc::kNotLeader:
    case Errc::kBusyTryLater:
    case Errc::kBadMessage:
    case Errc::kWrongCluster:
    case Errc::kVersion:
    case Errc::kSessionExpired:
    case Errc::kLeaseLost:
      return EIO;
  }
  return EIO;
}

}  // namespace cairn::client
