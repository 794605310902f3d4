// cairn-osd: serves one disk. See cairn-osd(8).
#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/daemon/daemon.h"
#include "common/logging/log.h"
#include "osd/service/osd.h"

namespace cairn::osd {
namespace {

struct Arguments {
  std::string check;  // directory, or none
};

StoreOptions storeOptions(const Config& config) {
  StoreOptions store;
  store.directory = config.text("osd.data");
  if (const std::string& device = config.text("osd.device"); !device.empty()) store.device = device;
  store.sizeBytes = config.bytes("osd.size");
  store.walBytes = config.bytes("osd.wal_bytes");
  store.cacheBytes = config.bytes("osd.cache_bytes");
  store.reserveBytes = config.bytes("osd.reserve");
  return store;
}

Result<OsdOptions> osdOptions(const Config& config) {
  TRY(config.require("osd.data"));
  OsdOptions o;
  o.store = storeOptions(config);
  auto listen = parseEndpoint(config.text("osd.listen"));
  TRY(listen);
  o.listen = *listen;
  auto mds = parseEndpoints(config.text("osd.mds"));
  TRY(mds);
  o.link.mds = *mds;
  o.link.host = config.isSet("osd.host") ? config.text("osd.host") : Daemon::hostName();
  o.link.rack = config.text("osd.rack");
  o.diskTimeout = config.duration("osd.disk_timeout");
  o.service.scrub = {config.duration("osd.scrub_interval"),
                     config.duration("osd.deep_scrub_interval")};
  o.link.deviceClass =
      config.text("osd.class") == "hdd" ? schema::DeviceClass::HDD : schema::DeviceClass::SSD;
  o.link.pid = Daemon::pid();
  return o;
}

// The offline checker: findings and a summary on standard output; 1 with findings.
Task<Result<int>> check(Daemon& daemon, std::string directory) {
  StoreOptions store = storeOptions(daemon.config());
  store.directory = directory;
  auto report = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  auto found = co_await checkStore(daemon.env(), std::move(store), report);
  CO_TRY(found);
  std::printf("%s: %llu chunks, %llu blocks, %llu bad blocks, %llu other errors: %s\n",
              directory.c_str(), static_cast<unsigned long long>(found->chunks),
              static_cast<unsigned long long>(found->blocks),
              static_cast<unsigned long long>(found->badBlocks),
              static_cast<unsigned long long>(found->otherErrors),
              found->clean() ? "clean" : "damaged");
  co_return found->clean() ? 0 : 1;
}

// Wakes the main task when the OSD cannot go on.
Task<void> watchFailure(Osd& osd, Event& over) {
  co_await osd.failed().wait();
  over.set();
}

Task<void> watchStopping(Daemon& daemon, Event& over) {
  co_await daemon.stopping().wait();
  over.set();
}

Task<void> watchSettled(Daemon& daemon, Osd& osd) {
  co_await osd.settled().wait();
  if (osd.failed().isSet() || daemon.stopping().isSet()) co_return;
  daemon.env().log.setComponent("osd." + std::to_string(osd.id().value));
  daemon.ready(osd.address());
}

Task<Result<int>> serve(Daemon& daemon) {
  auto options = osdOptions(daemon.config());
  CO_TRY(options);
  daemon.setHealth([] { return Result<void>(fail(Errc::kUnavailable, "starting")); });
  auto started = co_await Osd::start(daemon.env(), std::move(*options), daemon.stopping(),
                                     [&daemon](uint16_t port) { return daemon.advertised(port); });
  if (!started && started.error().code == Errc::kCanceled) co_return 0;
  CO_TRY(started);
  Osd& osd = **started;
  daemon.setHealth([&osd] { return osd.health(); });
  Event over(daemon.env().reactor);
  TaskScope scope(daemon.env().reactor);
  scope.spawn(watchSettled(daemon, osd));
  scope.spawn(watchFailure(osd, over));
  scope.spawn(watchStopping(daemon, over));
  co_await over.wait();
  const bool failed = osd.failed().isSet();
  const Error why = osd.failure();
  daemon.setHealth({});
  co_await osd.stop();
  // Everybody who still waits sees that it is over.
  daemon.stopping().set();
  osd.failed().set();
  osd.settled().set();
  co_await scope.join();
  if (failed) co_return fail(why);
  co_return 0;
}

}  // namespace
}  // namespace cairn::osd

int main(int argc, char** argv) {
  using namespace cairn;
  osd::Arguments arguments;
  DaemonSpec spec;
  spec.program = "cairn-osd";
  spec.description = "Serves one disk to a Cairn cluster.";
  spec.section = "osd";
  spec.settings = osdSettings();
  spec.addOptions = [&arguments](CLI::App& app) {
    app.add_option("--check", arguments.check,
                   "Verify the store of a stopped OSD and exit: 0 clean, 1 with findings")
        ->type_name("DIR");
  };
  spec.registeredBytes = 64 * kMiB;
  spec.isErrand = [&arguments] { return !arguments.check.empty(); };
  return runDaemon(argc, argv, spec, [&arguments](Daemon& daemon) {
    return arguments.check.empty() ? osd::serve(daemon) : osd::check(daemon, arguments.check);
  });
}
