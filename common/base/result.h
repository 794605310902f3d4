// Expected failures are values. A `Result<T>` holds a T or an `Error`: a code that a caller can act
// on and a sentence for people. Broken invariants do not come this way: they stop the process (see
// assert.h).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace cairn {

// The numbers travel in `RpcHeader.status`: append, never renumber. Codes from kNotFound to
// kNoLocks map to one errno each at the FUSE edge (client/fuse/errno_map.cc); the rest tell the
// machinery what to do next.
enum class Errc : uint16_t {
  kOk = 0,
  // Answers of the namespace.
  kNotFound = 1,       // ENOENT
  kExists = 2,         // EEXIST
  kNotDirectory = 3,   // ENOTDIR
  kIsDirectory = 4,    // EISDIR
  kNotEmpty = 5,       // ENOTEMPTY
  kInvalid = 6,        // EINVAL: the request makes no sense
  kPermission = 7,     // EPERM
  kAccess = 8,         // EACCES
  kNameTooLong = 9,    // ENAMETOOLONG
  kTooManyLinks = 10,  // EMLINK
  kNoSpace = 11,       // ENOSPC
  kQuota = 12,         // EDQUOT
  kReadOnly = 13,      // EROFS
  kNoAttribute = 14,   // ENODATA: no such xattr, or no data/hole after the offset (ENXIO at lseek)
  kNoBuffer = 15,      // ERANGE: the caller's buffer is too small
  kNotSupported = 16,  // EOPNOTSUPP
  kCrossDevice = 17,   // EXDEV
  kBusy = 18,          // EBUSY
  kStale = 19,         // ESTALE: the inode is gone
  kTooBig = 20,        // EFBIG
  kDeadlock = 21,      // EDEADLK
  kLoop = 22,          // ELOOP / EINVAL of a rename below itself
  kWouldBlock = 23,    // EAGAIN: somebody else holds the lock
  kInterrupted = 24,   // EINTR: the caller gave up waiting
  kNoLocks = 25,       // ENOLCK: too many
  // Data and devices.
  kIo = 40,       // EIO from a device
  kCorrupt = 41,  // stored bytes do not match their checksum: never served
  // Talking to others. All of these may be retried by the machinery.
  kUnavailable = 60,   // not now: no connection, starting, no lease, replica down. Try again.
  kTimeout = 61,       // the deadline passed; whether it happened is unknown
  kStaleEpoch = 62,    // the sender's map is older than ours: fetch the map, try again
  kNotLeader = 63,     // ask another member
  kBusyTryLater = 64,  // a limit was reached (queue, bytes in flight)
  // Not to be retried.
  kCanceled = 80,        // this end is shutting down
  kBadMessage = 81,      // a peer sent what no correct peer sends
  kWrongCluster = 82,    // the peer or the directory belongs to another cluster
  kVersion = 83,         // the peer or the directory speaks a format we do not know
  kSessionExpired = 84,  // the session was fenced; its unflushed data is lost
  kLeaseLost = 85,       // the session does not hold the lease that this needs (LEASES.md)
};

std::string_view errcName(Errc code);

// One failure. `message` names the thing, the reason and, where there is one, the way out.
struct Error {
  Errc code = Errc::kInvalid;
  std::string message;

  Error() = default;
  explicit Error(Errc c, std::string m = {}) : code(c), message(std::move(m)) {}
  // "message (code)", or the code's name alone.
  [[nodiscard]] std::string text() const;
  // True for the codes a retry may cure.
  [[nodiscard]] bool retryable() const {
    return static_cast<uint16_t>(code) >= 60 && static_cast<uint16_t>(code) < 80;
  }
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Errc code, std::string message = {}) {
  return std::unexpected<Error>(std::in_place, code, std::move(message));
}
inline std::unexpected<Error> fail(Error error) {
  return std::unexpected<Error>(std::move(error));
}

// An error for a failed system call: picks the code from `err` and appends strerror to `what`.
Error errnoError(int err, std::string_view what);

}  // namespace cairn

// The two early returns. In a coroutine use the CO_ form.
//   TRY(expr)          evaluates a Result; on failure returns its Error from the enclosing
//   function. CO_TRY(expr)       the same in a coroutine.
// To bind the value: `auto r = expr; TRY(r);` then `*r`.
#define TRY(expr)                                              \
  do {                                                         \
    if (auto&& try_result_ = (expr); !try_result_.has_value()) \
      return ::cairn::fail(std::move(try_result_).error());    \
  } while (false)
#define CO_TRY(expr)                                           \
  do {                                                         \
    if (auto&& try_result_ = (expr); !try_result_.has_value()) \
      co_return ::cairn::fail(std::move(try_result_).error()); \
  } while (false)
