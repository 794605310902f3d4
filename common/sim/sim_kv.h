// The key-value store of a simulated process: the real one (LevelKv) on its SimKvEnv. It ends every
// operation of a killed process with kCanceled, and runs LevelDB's background work in events of its
// own, some time after it was asked for, so that crashes find it undone.
#pragma once

#include <memory>
#include <string>

#include "common/kv/kv.h"

namespace cairn::sim {

class SimNode;

class SimKvFactory final : public KvFactory {
 public:
  explicit SimKvFactory(SimNode& node);
  Result<std::unique_ptr<Kv>> open(Reactor& reactor, const std::string& path,
                                   KvOptions options) override;
  Result<void> destroy(const std::string& path) override;

 private:
  SimNode& node_;
  std::unique_ptr<KvFactory> level_;
};

}  // namespace cairn::sim
