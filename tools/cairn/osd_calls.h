// Questions to OSDs, over one connection to each. close() before it dies.
#pragma once

#include <map>
#include <memory>

#include "common/cluster/cluster_map.h"
#include "common/schema/osd.capnp.h"
#include "common/wire/rpc.h"

namespace cairn::tools {

class OsdCalls {
 public:
  explicit OsdCalls(Env& env) : env_(env) {}

  // Answers, or fails, within `timeout`. `to` is read before the first wait only.
  Task<Result<InMessage>> ask(const OsdEntry& to, OutMessage request, Duration timeout);
  Task<void> close();

 private:
  Env& env_;
  std::map<std::string, std::unique_ptr<RpcClient>> clients_;  // by address
};

}  // namespace cairn::tools
