#include "mds/server/space_watch.h"

#include "common/base/units.h"
#include "common/disk/disk.h"
#include "common/logging/log.h"

namespace cairn::mds {

Task<void> SpaceWatch::look() {
  auto free = co_await env_.disk.freeBytes(directory_);
  std::string problem;
  if (!free) {
    problem = "the free space of the metadata server is not known: " + free.error().message;
  } else if (*free < reserve_) {
    problem = "the metadata server has " + std::to_string(*free / kMiB) + " MiB left at " +
              directory_ + " and makes nothing new below " + std::to_string(reserve_ / kMiB) +
              " MiB: free space there";
  }
  if (problem.empty() && !problem_.empty()) env_.log.info("there is space again");
  if (!problem.empty() && problem_.empty()) env_.log.warning("low on space", {{"reason", problem}});
  problem_ = std::move(problem);
}

Result<void> SpaceWatch::admits(schema::Mutation::Reader change) const {
  if (problem_.empty()) return {};
  switch (change.which()) {
    case schema::Mutation::MAKE:
    case schema::Mutation::LINK:
    case schema::Mutation::SETXATTR:
    case schema::Mutation::ALLOC_CHUNKS:
    case schema::Mutation::POOL_CREATE:
      return fail(Errc::kNoSpace, problem_);
    default:
      return {};
  }
}

}  // namespace cairn::mds
