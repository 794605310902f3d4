// One metadata server, whole: its database, its log and its service. cairn-mds runs one for a
// process; the simulator runs one on a node.
//
//   auto mds = co_await Mds::start(env, options);   // recovered, and served
//   ...
//   co_await mds->stop();
//
// One reactor thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/env.h"
#include "common/wire/rpc.h"
#include "mds/log/command_log.h"
#include "mds/server/server.h"
#include "mds/state/state_machine.h"

namespace cairn::mds {

struct MdsOptions {
  std::string directory;  // holds `meta/` (LevelDB) and the file `log`
  Uuid cluster;           // whose directory it is
  bool create = false;    // make what is missing
  uint64_t logBytes = 256 * kMiB;
  uint64_t cacheBytes = 256 * kMiB;
  Endpoint listen;
  RpcLimits limits;
  ServerOptions server;  // `cluster`, `directory`, `advertise` and `onFatal` are set here
  // Where others reach us, given the port; empty: at the host of `listen`.
  std::function<Result<Endpoint>(uint16_t port)> addr;
  // When a new database and log are whole, before anybody is answered. May be empty.
  std::function<Result<void>()> onMade;
};

class Mds {
 public:
  // Opens or makes the database and the log, replays, then listens. A failure leaves nothing
  // running. `env` outlives it.
  static Task<Result<std::unique_ptr<Mds>>> start(Env& env, MdsOptions options);
  ~Mds();  // after stop()
  Mds(const Mds&) = delete;
  Mds& operator=(const Mds&) = delete;

  // Refuses what comes, ends what runs, closes log and database. Once.
  Task<void> stop();

  // Set when nothing can be changed any more (log or database failed): see failure().
  [[nodiscard]] Event& failed() { return failed_; }
  [[nodiscard]] const Error& failure() const { return failure_; }
  // For /healthz.
  [[nodiscard]] Result<void> health() const;

  [[nodiscard]] uint16_t port() const { return rpc_.port(); }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] StateMachine& state() { return *state_; }
  [[nodiscard]] const Server& server() const { return server_; }

 private:
  Mds(Env& env, MdsOptions options, std::unique_ptr<StateMachine> state);
  Task<Result<void>> bringUp();
  ServerOptions serverOptions();

  Env& env_;
  const MdsOptions options_;
  std::unique_ptr<StateMachine> state_;
  Event failed_;
  Error failure_;
  Server server_;
  std::unique_ptr<CommandLog> log_;
  RpcServer rpc_;
  std::string address_;
};

}  // namespace cairn::mds
