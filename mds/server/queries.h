// Answers from the state machine as it is now: lookup, getattr, readdir, readlink, extended
// attributes, chunks, resolve, with the leases that go along. One reactor thread; nothing here
// waits: what has to be waited for first (Leases::behind) is the caller's.
#pragma once

#include "mds/server/leases.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

class Queries {
 public:
  Queries(StateMachine& state, const Leases& leases) : state_(state), leases_(leases) {}

  using Grants = Leases::Grants;
  // `found`: what state.lookup() said. kNotFound becomes the answer `none` for sessions that take
  // leases: with one on the directory they know that the name is not there.
  Result<OutMessage> lookup(InodeId parent, const Result<Inode>& found, bool leases,
                            Grants& grants);
  OutMessage attr(const Inode& inode, Grants& grants);
  // As many entries as were asked for, but never more than the limits of admission.h. Sessions that
  // take leases get no attributes of files that they would have to wait for.
  Result<OutMessage> readdir(schema::Readdir::Reader args, SessionId session, bool leases,
                             Grants& grants);
  Result<OutMessage> readlink(const Inode& inode);
  Result<OutMessage> getxattr(schema::XattrName::Reader args);
  Result<OutMessage> listxattr(InodeId ino);
  Result<OutMessage> chunks(schema::Chunks::Reader args);
  Result<OutMessage> chunkList(schema::ChunkListPlace::Reader after);
  // kNotDirectory where the path goes through something else, symbolic links included.
  Result<Inode> resolve(std::string_view path);
  // The attributes and the first chunks: what open() and a lease answer.
  Result<OutMessage> entry(const Inode& inode, Grants& grants, LeaseMode wanted = LeaseMode::kRead,
                           const Leases::Claim* claim = nullptr);
  // The same into a reply that is there.
  Result<void> writeEntry(schema::Entry::Builder entry, const Inode& inode, Grants& grants,
                          LeaseMode wanted, const Leases::Claim* claim = nullptr);

 private:
  StateMachine& state_;
  const Leases& leases_;
};

}  // namespace cairn::mds
