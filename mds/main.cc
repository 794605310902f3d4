// cairn-mds: serves the metadata of a cluster. See cairn-mds(8).
#include "common/daemon/daemon.h"
#include "common/logging/log.h"
#include "mds/server/data_directory.h"
#include "mds/server/mds.h"

namespace cairn::mds {
namespace {

Result<MdsOptions> mdsOptions(Daemon& daemon) {
  const Config& config = daemon.config();
  TRY(config.require("mds.data"));
  MdsOptions o;
  o.directory = config.text("mds.data");
  o.logBytes = config.bytes("mds.log_bytes");
  o.cacheBytes = config.bytes("mds.cache_bytes");
  auto listen = parseEndpoint(config.text("mds.listen"));
  TRY(listen);
  o.listen = *listen;
  o.addr = [&daemon](uint16_t port) { return daemon.advertised(port); };
  o.server.replicas = static_cast<uint16_t>(config.integer("mds.replicas"));
  o.server.osdLease = config.duration("mds.osd_lease");
  o.server.clientLease = config.duration("mds.client_lease");
  o.server.osdOutAfter = config.duration("mds.osd_out_after");
  o.server.sessionTimeout = config.duration("mds.session_timeout");
  o.server.reserve = config.bytes("mds.reserve");
  o.server.gcInterval = config.duration("mds.gc_interval");
  o.server.host = Daemon::hostName();
  o.server.pid = Daemon::pid();
  return o;
}

// Wakes the main task when the server cannot go on.
Task<void> watchFailure(Mds& mds, Event& over) {
  co_await mds.failed().wait();
  over.set();
}

Task<void> watchStopping(Daemon& daemon, Event& over) {
  co_await daemon.stopping().wait();
  over.set();
}

Task<Result<int>> serve(Daemon& daemon, Mds& mds) {
  daemon.setHealth([&mds] { return mds.health(); });
  daemon.ready(mds.address());
  Event over(daemon.env().reactor);
  TaskScope scope(daemon.env().reactor);
  scope.spawn(watchFailure(mds, over));
  scope.spawn(watchStopping(daemon, over));
  co_await over.wait();
  const bool failed = mds.failed().isSet();
  const Error why = mds.failure();
  daemon.setHealth({});
  co_await mds.stop();
  // Everybody who still waits sees that it is over.
  daemon.stopping().set();
  mds.failed().set();
  co_await scope.join();
  if (failed) co_return fail(why);
  co_return 0;
}

Task<Result<int>> run(Daemon& daemon) {
  auto options = mdsOptions(daemon);
  CO_TRY(options);
  auto directory = DataDirectory::open(options->directory);
  CO_TRY(directory);
  const bool fresh = directory->fresh();
  if (fresh) {
    // Before anything is made: could it serve at all?
    auto probe = daemon.env().network.listen(options->listen);
    CO_TRY(probe);
    (*probe)->close();
    probe->reset();
    if (auto ok = directory->prepare(); !ok) {
      directory->discard();
      co_return fail(ok.error());
    }
    options->create = true;
    options->onMade = [&directory] { return directory->commit(); };
  }
  options->cluster = directory->cluster();
  auto mds = co_await Mds::start(daemon.env(), std::move(*options));
  if (!mds) {
    if (directory->fresh()) directory->discard();
    co_return fail(mds.error());
  }
  co_return co_await serve(daemon, **mds);
}

}  // namespace
}  // namespace cairn::mds

int main(int argc, char** argv) {
  using namespace cairn;
  DaemonSpec spec;
  spec.program = "cairn-mds";
  spec.description = "Serves the metadata of a Cairn cluster.";
  spec.section = "mds";
  spec.settings = mdsSettings();
  return runDaemon(argc, argv, spec, mds::run);
}
