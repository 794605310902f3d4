#include "test/sim/failures.h"

#include <numeric>
#include <string>

namespace cairn::sim::test {

Duration upTo(SimWorld& world, Duration most) {
  return Duration(static_cast<int64_t>(world.random().below(static_cast<uint64_t>(most.count()))));
}

void killDaemon(Load& load) {
  SimCluster& c = load.cluster;
  SimWorld& world = c.world;
  const size_t which = world.random().below(c.osds() + 1);
  const bool isMds = which == c.osds();
  SimNode& node = isMds ? c.mdsNode() : c.osdNode(which);
  if (world.chance(0.3)) {
    // In the middle of the database's work, if it does some soon.
    world.crashDuringKv(node, world.random().below(20), Crash::kProcess);
    world.runUntil([&node] { return !node.alive(); }, upTo(world, 2s));
  }
  world.kill(node);
  isMds ? c.endMds() : c.endOsd(which);
  load.go(upTo(world, world.chance(0.2) ? 4s : 300ms));
  isMds ? c.startMds() : c.startOsd(which);
}

void disturb(Load& load, Duration most) {
  SimCluster& c = load.cluster;
  SimWorld& world = c.world;
  std::vector<std::string> hosts = c.daemonHosts();
  for (size_t m = 0; m < 2; ++m) hosts.push_back(SimCluster::clientHost(m));
  const std::string a = hosts[world.random().below(hosts.size())];
  const std::string b = hosts[world.random().below(hosts.size())];
  const Duration lasts = upTo(world, most);
  switch (world.random().below(7)) {
    case 0:
      if (a != b) world.network().cut(a, b);
      break;
    case 1:
      if (a != b) world.network().cutOneWay(a, b);
      break;
    case 2: {
      std::vector<std::string> rest;
      for (const auto& h : hosts)
        if (h != a) rest.push_back(h);
      world.network().partition({a}, rest);
      break;
    }
    case 3:
      if (a != b) world.network().reset(a, b);
      return;
    case 4:
      if (a == b) return;
      world.network().link(a, b).clog = upTo(world, 200ms);
      break;
    case 5: {
      DiskOptions& disk = world.machine(a).disk.options;
      for (Duration* latency : {&disk.readLatency, &disk.writeLatency, &disk.syncLatency})
        *latency = upTo(world, 500ms);
      world.after(lasts, [&disk] { disk = {}; });
      return;
    }
    default:
      for (const auto& node : world.nodes())
        if (node->alive() && node->host() == a) {
          SimNode& paused = *node;
          world.pause(paused);
          world.after(lasts, [&world, &paused] { world.resume(paused); });
        }
      return;
  }
  world.after(lasts, [&world, a, b] {
    world.network().healAll();
    if (a != b) world.network().link(a, b).clog = {};
  });
}

void untilStaged(Load& load) {
  SimCluster& c = load.cluster;
  if (!c.options().striped) return;
  if (c.world.runUntil([&c] { return c.withStaged().has_value(); }, 2s))
    c.world.run(upTo(c.world, 2ms));  // into a later one of its rounds
}

std::vector<size_t> someOsds(SimCluster& c, size_t count) {
  std::vector<size_t> rest(c.osds()), chosen;
  std::iota(rest.begin(), rest.end(), size_t{0});
  for (size_t i = 0; i < count; ++i) {
    const auto at = rest.begin() + static_cast<ptrdiff_t>(c.world.random().below(rest.size()));
    chosen.push_back(*at);
    rest.erase(at);
  }
  return chosen;
}

void sendAway(SimCluster& c, const std::vector<size_t>& which,
              const std::function<void()>& meanwhile) {
  SimWorld& world = c.world;
  std::vector<size_t> dead;
  std::vector<SimNode*> still;
  for (size_t i : which) {
    if (world.chance(0.5)) {
      still.push_back(&c.osdNode(i));
      world.pause(c.osdNode(i));
    } else {
      dead.push_back(i);
      world.kill(c.osdNode(i));
      c.endOsd(i);
    }
  }
  meanwhile();
  for (SimNode* node : still) world.resume(*node);
  for (size_t i : dead) c.startOsd(i);
}

void longAbsence(Load& load, size_t most) {
  SimCluster& c = load.cluster;
  const auto which = someOsds(c, 1 + c.world.random().below(most));
  const Duration lasts = 2s + upTo(c.world, 10s);
  if (c.world.chance(0.7)) untilStaged(load);
  sendAway(c, which, [&] { load.go(lasts); });
}

}  // namespace cairn::sim::test
