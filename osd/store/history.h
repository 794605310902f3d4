// What is known of each placement group: its state, held in memory, and the index of its chunks'
// last changes, in the metadata only. The chunk maps tell it of every change. One reactor thread;
// nothing here suspends.
//
// Invariants
//   - A chunk that exists, or that was removed and is remembered, has exactly one entry, in the
//     index of its group, under its version.
//   - A group that has an entry has a state, whose `last` is not below any entry's version.
//   - No removal up to `trimmed` is remembered.
//
// Errors: kIo from the database; kCorrupt, naming the group, when an entry does not match its
// checksum.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "osd/store.h"
#include "osd/store/metadata.h"

namespace cairn::osd {

// As messages name it.
std::string nameOf(GroupId group);

class History {
 public:
  explicit History(Metadata& metadata) : metadata_(metadata) {}

  // Reads the states of all groups, before anything else. Goes on after a damaged one, and names
  // the first.
  Result<void> load();

  // All zero when nothing is known.
  [[nodiscard]] GroupState state(GroupId group) const;
  [[nodiscard]] std::vector<GroupId> groups() const;
  // Behind `after`, ascending, until `visit` returns false. `visit` changes nothing here.
  using Visit = std::function<bool(const Changed&)>;
  Result<void> scan(GroupId group, const Changed& after, const Visit& visit);

  // A mutation of the group that `stamp` describes has been applied.
  void note(const Stamp& stamp);
  void trimmed(GroupId group, ChunkVersion upTo);
  // Some of its chunks are about to go unrecorded: what is committed says nothing any more.
  void dropping(GroupId group);
  // The index: of a chunk that has no entry, that has one, and that shall have none.
  void add(GroupId group, const Changed& change);
  void replace(GroupId group, const Changed& before, const Changed& now);
  void erase(GroupId group, const Changed& change);
  // A group without entries.
  void forget(GroupId group);

  // Puts the states that changed into the metadata's buffer; whoever flushes that calls it first.
  void store();

 private:
  struct Group {
    GroupState state;
    bool dirty = false;  // and listed there
  };
  void touched(GroupId id, Group& group);

  Metadata& metadata_;
  std::map<GroupId, Group> groups_;
  std::vector<GroupId> dirty_;
};

}  // namespace cairn::osd
