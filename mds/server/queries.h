// Answers that need only the state machine: lookup, getattr, readdir, readlink, extended
// attributes, chunks, resolve. One reactor thread; nothing here waits.
#pragma once

#include "mds/state/state_machine.h"

namespace cairn::mds {

class Queries {
 public:
  explicit Queries(StateMachine& state) : state_(state) {}

  Result<OutMessage> lookup(schema::Lookup::Reader args);
  Result<OutMessage> getattr(InodeId ino);
  // As many entries as were asked for, but never more than the limits of admission.h.
  Result<OutMessage> readdir(schema::Readdir::Reader args);
  Result<OutMessage> readlink(InodeId ino);
  Result<OutMessage> getxattr(schema::XattrName::Reader args);
  Result<OutMessage> listxattr(InodeId ino);
  Result<OutMessage> chunks(schema::Chunks::Reader args);
  // kNotDirectory where the path goes through something else, symbolic links included.
  Result<OutMessage> resolve(std::string_view path);
  // The attributes and the first chunks: what open() answers.
  Result<OutMessage> entry(const Inode& inode);

 private:
  StateMachine& state_;
};

}  // namespace cairn::mds
