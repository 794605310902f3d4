// Mends what `cairn fsck` has found, where it is certain what is right, by asking those whose work
// it is. Nothing is removed here or because this program says so: the metadata server looks itself
// whether a chunk is leaked, and members are made equal by the scrub of the one that leads them.
//
//   leaked       goes to the garbage queue of the metadata server, which removes it from the OSDs
//   differs      the group's primary scrubs what it leads and makes the others equal; not if there
//                is anything that it lacks and others hold, which its scrub would take from them
//   stray        is removed by its OSD; that is waited for
//   wrong group  stays: where it lies nobody looks, and nobody knows what it is
//   damaged      stays: nothing good is left
#pragma once

#include <string>
#include <vector>

#include "tools/cairn/stored_chunks.h"

namespace cairn::tools {

// What became of one finding.
struct Repair {
  bool done = false;
  std::string text;
};

// One for each finding, when there is nothing more to wait for. What could not be asked for is not
// done; an error is one of asking what is so now. `all`: there are no others; nothing is scrubbed
// as long as an OSD may lack something that is not among them.
Task<Result<std::vector<Repair>>> repairAll(Env& env, MdsConnection& connection, OsdCalls& calls,
                                            const std::vector<Finding>& findings, bool all);

}  // namespace cairn::tools
