// Keeps room on the metadata's own file system: below a reserve nothing new is made, so that what
// frees space (removals, and the database's own compactions) still finds some. One reactor thread.
#pragma once

#include <string>

#include "common/base/env.h"
#include "common/base/result.h"
#include "common/reactor/task.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/mds.capnp.h"
// clang-format on

namespace cairn::mds {

class SpaceWatch {
 public:
  // `directory` lies on the file system that is watched. `env` outlives it.
  SpaceWatch(Env& env, std::string directory, uint64_t reserve)
      : env_(env), directory_(std::move(directory)), reserve_(reserve) {}

  // Looks how much is free now.
  Task<void> look();
  // kNoSpace: the change would add to the metadata, and there is no room.
  [[nodiscard]] Result<void> admits(schema::Mutation::Reader change) const;
  // A sentence for `cairn status` while there is too little; otherwise empty.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  Env& env_;
  const std::string directory_;
  const uint64_t reserve_;
  std::string problem_;
};

}  // namespace cairn::mds
