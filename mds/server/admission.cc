#include "mds/server/admission.h"

#include <string>

#include "common/base/units.h"
#include "common/locks/lock_ranges.h"
#include "common/net/network.h"

namespace cairn::mds {
namespace {

using schema::MdsRequest;
using schema::Mutation;
using Role = schema::Hello::Role;

Result<void> checkName(capnp::Data::Reader name) {
  if (name.size() > kMaxNameBytes)
    return fail(Errc::kNameTooLong, "a name has at most " + std::to_string(kMaxNameBytes) +
                                        " bytes, this one " + std::to_string(name.size()));
  if (name.size() == 0) return fail(Errc::kInvalid, "a name is empty");
  for (uint8_t c : name)
    if (c == 0 || c == '/') return fail(Errc::kInvalid, "a name holds a slash or a zero byte");
  return {};
}

Result<void> checkLabel(std::string_view what, capnp::Text::Reader text,
                        size_t limit = kMaxLabelBytes) {
  if (text.size() > limit)
    return fail(Errc::kInvalid,
                std::string(what) + " has more than " + std::to_string(limit) + " bytes");
  for (char c : text)
    if (static_cast<unsigned char>(c) < ' ')
      return fail(Errc::kInvalid, std::string(what) + " holds a control character");
  return {};
}

Result<void> checkXattrName(schema::XattrName::Reader x) {
  if (x.getName().size() == 0 || x.getName().size() > kMaxNameBytes)
    return fail(Errc::kInvalid, "the name of an extended attribute has 1 to 255 bytes");
  for (uint8_t c : x.getName())
    if (c == 0) return fail(Errc::kInvalid, "an attribute's name holds a zero byte");
  return {};
}

Result<void> checkChunks(schema::Chunks::Reader c) {
  if (c.getCount() > kMaxChunksAsked)
    return fail(Errc::kInvalid,
                "at most " + std::to_string(kMaxChunksAsked) + " chunks are asked for at once");
  if (uint64_t{c.getFirst()} + c.getCount() > kMaxFileSize / kChunkSize)
    return fail(Errc::kTooBig, "files end at 2^50 bytes");
  return {};
}

Result<void> onlyLeader() {
  return fail(Errc::kPermission, "only the leading metadata server decides this");
}

Result<void> only(Role role, Role needed, std::string_view who) {
  if (role == needed) return {};
  return fail(Errc::kPermission, "only " + std::string(who) + " may ask for this");
}

Result<void> checkLock(schema::FileLock::Reader lock, bool unlocks) {
  if (static_cast<uint16_t>(lock.getSpace()) > 1 || static_cast<uint16_t>(lock.getType()) > 2)
    return fail(Errc::kInvalid, "unknown kind of lock");
  if (lock.getType() == schema::LockType::NONE && !unlocks)
    return fail(Errc::kInvalid, "a lock is for reading or for writing");
  if (lock.getStart() > lock.getEnd() || lock.getEnd() > kLastLockByte)
    return fail(Errc::kInvalid, "a lock begins before it ends, and ends at 2^63-1 at most");
  if (lock.getSpace() == schema::LockSpace::FLOCK &&
      (lock.getStart() != 0 || lock.getEnd() != kLastLockByte))
    return fail(Errc::kInvalid, "flock locks whole files");
  return {};
}

Result<void> checkMake(schema::Make::Reader m) {
  if (!m.getUnnamed()) TRY(checkName(m.getName()));
  if (m.getUnnamed() && m.getName().size() != 0)
    return fail(Errc::kInvalid, "a file without a name was given one");
  if (m.getTarget().size() > kMaxSymlinkBytes)
    return fail(Errc::kNameTooLong, "a symbolic link's target has at most " +
                                        std::to_string(kMaxSymlinkBytes) + " bytes");
  return {};
}

Result<void> checkRegister(schema::OsdRegister::Reader r) {
  (void)r.getUuid().getHi();
  TRY(checkLabel("an OSD's address", r.getAddr()));
  TRY(checkLabel("an OSD's host", r.getHost(), 255));
  TRY(checkLabel("an OSD's rack", r.getRack(), 255));
  auto addr = parseEndpoint(std::string_view(r.getAddr().begin(), r.getAddr().size()));
  if (!addr) return fail(Errc::kInvalid, "an OSD's address: " + addr.error().message);
  if (static_cast<uint16_t>(r.getDeviceClass()) > 1)
    return fail(Errc::kInvalid, "unknown device class");
  return {};
}

Result<void> checkPool(schema::PoolCreate::Reader p) {
  TRY(checkLabel("a pool's name", p.getName(), kMaxPoolNameBytes));
  if (p.getName().size() == 0) return fail(Errc::kInvalid, "a pool needs a name");
  if (static_cast<uint16_t>(p.getDeviceClass()) > 1)
    return fail(Errc::kInvalid, "unknown device class");
  if (static_cast<uint16_t>(p.getFailureDomain()) > 2)
    return fail(Errc::kInvalid, "unknown failure domain");
  return {};
}

// Every pointer of the mutation is followed here: a text or list that is none throws now, not while
// the command is applied.
Result<void> admitMutation(MdsRequest::Reader request, Role role) {
  auto m = request.getMutate();
  if (m.totalSize().wordCount * sizeof(capnp::word) > kMaxCommandBytes)
    return fail(Errc::kTooBig, "a change has at most 1 MiB");
  bool needsSession = true;
  switch (m.which()) {
    case Mutation::MAKE:
      TRY(checkMake(m.getMake()));
      break;
    case Mutation::LINK:
      TRY(checkName(m.getLink().getName()));
      break;
    case Mutation::REMOVE:
      TRY(checkName(m.getRemove().getName()));
      break;
    case Mutation::RENAME:
      TRY(checkName(m.getRename().getName()));
      TRY(checkName(m.getRename().getNewName()));
      break;
    case Mutation::SETATTR:
      (void)m.getSetattr().getIno();
      break;
    case Mutation::SETXATTR:
      if (m.getSetxattr().getName().size() == 0 || m.getSetxattr().getName().size() > kMaxNameBytes)
        return fail(Errc::kInvalid, "the name of an extended attribute has 1 to 255 bytes");
      for (uint8_t c : m.getSetxattr().getName())
        if (c == 0) return fail(Errc::kInvalid, "an attribute's name holds a zero byte");
      if (m.getSetxattr().getValue().size() > kMaxXattrBytes)
        return fail(Errc::kTooBig, "the value of an extended attribute has at most 64 KiB");
      break;
    case Mutation::REMOVEXATTR:
      TRY(checkXattrName(m.getRemovexattr()));
      break;
    case Mutation::ALLOC_CHUNKS:
      TRY(checkChunks(m.getAllocChunks()));
      break;
    case Mutation::REMOVE_CHUNKS:
      TRY(checkChunks(m.getRemoveChunks()));
      break;
    case Mutation::COMMIT_WRITE:
      (void)m.getCommitWrite().getIno();
      break;
    case Mutation::TAIL_CLEANED:
      (void)m.getTailCleaned().getIno();
      break;
    case Mutation::ACCESSED:
      if (m.getAccessed().getAccesses().size() > kMaxAccesses)
        return fail(Errc::kTooBig, "too many times of access at once");
      break;
    case Mutation::SET_LAYOUT:
      TRY(checkLabel("a pool's name", m.getSetLayout().getPool(), kMaxPoolNameBytes));
      needsSession = false;
      break;
    case Mutation::SESSION_OPEN:
      TRY(only(role, Role::CLIENT, "clients"));
      TRY(checkLabel("a client's address", m.getSessionOpen().getAddr()));
      if (m.getSessionOpen().getMount().size() > kMaxPathBytes)
        return fail(Errc::kInvalid, "a mount point has more than 4096 bytes");
      TRY(checkLabel("a client's host", m.getSessionOpen().getHost()));
      needsSession = false;
      break;
    case Mutation::OSD_REGISTER:
      TRY(only(role, Role::OSD, "OSDs"));
      TRY(checkRegister(m.getOsdRegister()));
      needsSession = false;
      break;
    case Mutation::GROUP_REPORT:
      TRY(only(role, Role::OSD, "OSDs"));
      if (m.getGroupReport().size() > kMaxGroupChanges)
        return fail(Errc::kTooBig, "too many changes of groups at once");
      needsSession = false;
      break;
    case Mutation::OSD_SET:
    case Mutation::OSD_REMOVE:
    case Mutation::REBALANCE_PAUSE:
      TRY(only(role, Role::ADMIN, "administrators"));
      needsSession = false;
      break;
    case Mutation::POOL_SET:
      TRY(only(role, Role::ADMIN, "administrators"));
      TRY(checkLabel("a pool's name", m.getPoolSet().getName(), kMaxPoolNameBytes));
      if (static_cast<uint16_t>(m.getPoolSet().getDeviceClass()) > 1)
        return fail(Errc::kInvalid, "unknown device class");
      needsSession = false;
      break;
    case Mutation::POOL_REMOVE:
      TRY(only(role, Role::ADMIN, "administrators"));
      TRY(checkLabel("a pool's name", m.getPoolRemove(), kMaxPoolNameBytes));
      needsSession = false;
      break;
    case Mutation::POOL_CREATE:
      TRY(only(role, Role::ADMIN, "administrators"));
      TRY(checkPool(m.getPoolCreate()));
      needsSession = false;
      break;
    case Mutation::OSD_STATE:
    case Mutation::OSDS_LOST:
    case Mutation::SESSION_END:
    case Mutation::RELEASE_ORPHAN:
    case Mutation::PURGE:
    case Mutation::GARBAGE_DONE:
    case Mutation::CHUNKS_LEAKED:
    case Mutation::BOOTSTRAP:
      return onlyLeader();
    default:
      return fail(Errc::kNotSupported, "this metadata server does not know that change");
  }
  if (needsSession && request.getSession() == 0)
    return fail(Errc::kInvalid, "this change needs a session");
  if (request.getSeq() != 0 && request.getSession() == 0)
    return fail(Errc::kInvalid, "a numbered change needs a session");
  if (request.getAckedBelow() > request.getSeq() && request.getSeq() != 0)
    return fail(Errc::kInvalid, "a change is numbered below what was acknowledged");
  return {};
}

std::string_view mutationName(Mutation::Which which) {
  switch (which) {
    case Mutation::MAKE:
      return "make";
    case Mutation::LINK:
      return "link";
    case Mutation::REMOVE:
      return "remove";
    case Mutation::RENAME:
      return "rename";
    case Mutation::SETATTR:
      return "setattr";
    case Mutation::SETXATTR:
      return "setxattr";
    case Mutation::REMOVEXATTR:
      return "removexattr";
    case Mutation::ALLOC_CHUNKS:
      return "alloc_chunks";
    case Mutation::REMOVE_CHUNKS:
      return "remove_chunks";
    case Mutation::COMMIT_WRITE:
      return "commit_write";
    case Mutation::TAIL_CLEANED:
      return "tail_cleaned";
    case Mutation::ACCESSED:
      return "accessed";
    case Mutation::SET_LAYOUT:
      return "set_layout";
    case Mutation::SESSION_OPEN:
      return "session_open";
    case Mutation::OSD_REGISTER:
      return "osd_register";
    case Mutation::OSD_STATE:
      return "osd_state";
    case Mutation::GROUP_REPORT:
      return "group_report";
    case Mutation::OSDS_LOST:
      return "osds_lost";
    case Mutation::OSD_SET:
      return "osd_set";
    case Mutation::OSD_REMOVE:
      return "osd_remove";
    case Mutation::REBALANCE_PAUSE:
      return "rebalance_pause";
    case Mutation::POOL_SET:
      return "pool_set";
    case Mutation::POOL_REMOVE:
      return "pool_remove";
    case Mutation::POOL_CREATE:
      return "pool_create";
    default:
      return "other";
  }
}

}  // namespace

Result<void> admit(MdsRequest::Reader request, Role role) {
  switch (request.which()) {
    case MdsRequest::MUTATE:
      return admitMutation(request, role);
    case MdsRequest::LOOKUP:
      if (request.getLookup().getName().size() > kMaxNameBytes)
        return fail(Errc::kNameTooLong, "a name has at most 255 bytes");
      return {};
    case MdsRequest::GETXATTR:
      return checkXattrName(request.getGetxattr());
    case MdsRequest::CHUNKS:
      return checkChunks(request.getChunks());
    case MdsRequest::RESOLVE:
      if (request.getResolve().size() > kMaxPathBytes)
        return fail(Errc::kNameTooLong, "a path has at most 4096 bytes");
      return {};
    case MdsRequest::LOCK:
    case MdsRequest::LOCK_TEST: {
      if (request.getSession() == 0) return fail(Errc::kInvalid, "this request needs a session");
      if (request.isLockTest()) return checkLock(request.getLockTest(), false);
      return checkLock(request.getLock().getLock(), !request.getLock().getWait());
    }
    case MdsRequest::RECLAIM:
      if (request.getSession() == 0) return fail(Errc::kInvalid, "this request needs a session");
      for (auto lock : request.getReclaim().getLocks()) TRY(checkLock(lock, false));
      return {};
    case MdsRequest::OPEN:
    case MdsRequest::RELEASE:
    case MdsRequest::KEEPALIVE:
    case MdsRequest::SESSION_CLOSE:
    case MdsRequest::LEASE:
    case MdsRequest::LEASE_RETURN:
    case MdsRequest::LOCK_CANCEL:
    case MdsRequest::LOCK_PROBED:
      if (request.getSession() == 0) return fail(Errc::kInvalid, "this request needs a session");
      return {};
    case MdsRequest::HEARTBEAT:
      return only(role, Role::OSD, "OSDs");
    case MdsRequest::CHUNK_LIST:
      (void)request.getChunkList().getIno();
      return only(role, Role::ADMIN, "administrators");
    case MdsRequest::REMOVE_LEAKED:
      if (request.getRemoveLeaked().size() > kMaxLeaked)
        return fail(Errc::kTooBig, "too many leaked chunks at once");
      return only(role, Role::ADMIN, "administrators");
    default:
      return {};
  }
}

std::string_view operationName(MdsRequest::Reader request) {
  switch (request.which()) {
    case MdsRequest::MUTATE:
      return mutationName(request.getMutate().which());
    case MdsRequest::LOOKUP:
      return "lookup";
    case MdsRequest::GETATTR:
      return "getattr";
    case MdsRequest::READDIR:
      return "readdir";
    case MdsRequest::READLINK:
      return "readlink";
    case MdsRequest::GETXATTR:
      return "getxattr";
    case MdsRequest::LISTXATTR:
      return "listxattr";
    case MdsRequest::OPEN:
      return "open";
    case MdsRequest::RELEASE:
      return "release";
    case MdsRequest::CHUNKS:
      return "chunks";
    case MdsRequest::STATFS:
      return "statfs";
    case MdsRequest::MAP:
      return "map";
    case MdsRequest::KEEPALIVE:
      return "keepalive";
    case MdsRequest::HEARTBEAT:
      return "heartbeat";
    case MdsRequest::STATUS:
      return "status";
    case MdsRequest::RESOLVE:
      return "resolve";
    case MdsRequest::SESSION_CLOSE:
      return "session_close";
    case MdsRequest::RECLAIM:
      return "reclaim";
    case MdsRequest::LEASE:
      return "lease";
    case MdsRequest::LEASE_RETURN:
      return "lease_return";
    case MdsRequest::LOCK:
      return "lock";
    case MdsRequest::LOCK_TEST:
      return "lock_test";
    case MdsRequest::LOCK_CANCEL:
      return "lock_cancel";
    case MdsRequest::LOCK_PROBED:
      return "lock_probed";
    case MdsRequest::CHUNK_LIST:
      return "chunk_list";
    case MdsRequest::REMOVE_LEAKED:
      return "remove_leaked";
    default:
      return "other";
  }
}

}  // namespace cairn::mds
