// `cairn scrub`: verifies what is stored, and mends it.
#include <CLI/CLI.hpp>
#include <iostream>

#include "common/schema/osd.capnp.h"
#include "tools/cairn/cluster_view.h"
#include "tools/cairn/command.h"

namespace cairn::tools {

namespace {

struct ScrubOptions {
  Target target;
  bool light = false, json = false;
};

Task<Result<void>> askOsd(Env& env, const OsdEntry& osd, bool deep) {
  auto to = parseEndpoint(osd.addr);
  CO_TRY(to);
  RpcClient::Options options;
  options.to = *to;
  options.connectTimeout = 2s;
  RpcClient client(env, std::move(options));
  OutMessage m;
  m.body<schema::OsdRequest>().initScrub().setDeep(deep);
  auto reply = co_await client.call(std::move(m), 5s);
  co_await client.close();
  CO_TRY(reply);
  co_return Result<void>{};
}

Task<Result<void>> startScrub(Env& env, std::vector<Endpoint> servers, bool deep) {
  MdsConnection connection(env, std::move(servers));
  auto reply = co_await connection.ask([](schema::MdsRequest::Builder b) { b.setStatus(); });
  co_await connection.close();
  CO_TRY(reply);
  const ClusterView view = ClusterView::read(reply->body<schema::MdsReply>().getStatus());
  size_t asked = 0;
  std::string missing;
  for (const auto& [id, osd] : view.map.osds) {
    auto done = osd.up ? co_await askOsd(env, osd, deep) : fail(Errc::kUnavailable, "it is down");
    if (done)
      ++asked;
    else
      missing += "; osd." + std::to_string(id.value) + ": " + done.error().text();
  }
  std::cout << asked
            << " OSDs scrub the placement groups that they lead; watch it with: cairn scrub "
               "status\n";
  if (!missing.empty())
    co_return fail(Errc::kUnavailable,
                   "not all OSDs could be asked" + missing + "; ask again when they are up");
  co_return Result<void>{};
}

Result<void> showScrub(const ClusterView& v, bool asJson) {
  const auto& s = v.scrub;
  if (asJson) {
    std::cout << v.json()["scrub"].dump(2) << "\n";
    return {};
  }
  std::cout << "groups to do     " << s.groupsLeft << "\n"
            << "oldest scrub     " << (s.oldestNs == 0 ? "never" : timeText(s.oldestNs)) << "\n"
            << "errors found     " << s.errorsFound << "\n"
            << "errors repaired  " << s.errorsRepaired << "\n";
  if (s.unrepairable != 0)
    std::cout << "unrepairable     " << s.unrepairable
              << " chunks with blocks that are damaged in every copy: reading those gives EIO\n";
  return {};
}

}  // namespace

void addScrubCommand(CLI::App& app, int& exitCode) {
  auto options = std::make_shared<ScrubOptions>();
  CLI::App* scrub =
      app.add_subcommand("scrub", "Verify everything that is stored, and mend what can be mended");
  scrub->require_subcommand(1);
  CLI::App* start = scrub->add_subcommand(
      "start", "Let all OSDs read and compare every copy of every block, beside their work");
  addTargetOptions(*start, options->target);
  start->add_flag("--light", options->light, "only compare which chunks and versions there are");
  start->callback([options, &exitCode] {
    auto servers = options->target.endpoints();
    if (!servers) {
      printError(servers.error());
      exitCode = 1;
      return;
    }
    exitCode = runInWorld(
        [&](Env& env, UringReactor&) { return startScrub(env, *servers, !options->light); });
  });
  CLI::App* status = scrub->add_subcommand("status", "Show how far it is and what it has found");
  addTargetOptions(*status, options->target);
  status->add_flag("--json", options->json, "for programs");
  status->callback([options, &exitCode] {
    exitCode = withClusterView(options->target,
                               [&](const ClusterView& v) { return showScrub(v, options->json); });
  });
}

}  // namespace cairn::tools
