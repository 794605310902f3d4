#include "test/sim/scenario.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>

namespace cairn::sim::test {

std::optional<uint64_t> numberOf(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? std::nullopt : std::optional(std::strtoull(text, nullptr, 10));
}

void forSeeds(uint64_t usual, const std::function<void(uint64_t)>& scenario) {
  uint64_t first = 1, count = numberOf("CAIRN_SEEDS").value_or(usual);
  if (auto one = numberOf("CAIRN_SEED")) first = *one, count = 1;
  std::string name;
  for (const char* c = doctest::getContextOptions()->currentTest->m_name; *c != '\0'; ++c)
    name += *c == ',' ? std::string("\\,") : std::string(1, *c);  // a bare one ends the pattern
  for (uint64_t seed = first; seed < first + count; ++seed) {
    INFO("replay: CAIRN_SEED=" << seed << " test_cluster_sim -tc='" << name << "'");
    scenario(seed);
  }
}

Duration upTo(SimWorld& world, Duration most) {
  return Duration(static_cast<int64_t>(world.random().below(static_cast<uint64_t>(most.count()))));
}

void killDaemon(Run& run) {
  SimCluster& c = run.cluster;
  SimWorld& world = c.world;
  const size_t which = world.random().below(c.options().osds + 1);
  const bool isMds = which == c.options().osds;
  SimNode& node = isMds ? c.mdsNode() : c.osdNode(which);
  if (world.chance(0.3)) {
    // In the middle of the database's work, if it does some soon.
    world.crashDuringKv(node, world.random().below(20), Crash::kProcess);
    world.runUntil([&node] { return !node.alive(); }, upTo(world, 2s));
  }
  world.kill(node);
  isMds ? c.endMds() : c.endOsd(which);
  run.go(upTo(world, world.chance(0.2) ? 4s : 300ms));
  isMds ? c.startMds() : c.startOsd(which);
}

void disturb(Run& run, Duration most) {
  SimCluster& c = run.cluster;
  SimWorld& world = c.world;
  std::vector<std::string> hosts = c.daemonHosts();
  for (size_t m = 0; m < 2; ++m) hosts.push_back(SimCluster::clientHost(m));
  const std::string a = hosts[world.random().below(hosts.size())];
  const std::string b = hosts[world.random().below(hosts.size())];
  const Duration lasts = upTo(world, most);
  switch (world.random().below(6)) {
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

void untilStaged(Run& run) {
  SimCluster& c = run.cluster;
  if (!c.options().striped) return;
  if (c.world.runUntil([&c] { return c.withStaged().has_value(); }, 2s))
    c.world.run(upTo(c.world, 2ms));  // into a later one of its rounds
}

std::vector<size_t> someOsds(SimCluster& c, size_t count) {
  std::vector<size_t> rest(c.options().osds), chosen;
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

void longAbsence(Run& run, size_t most) {
  SimCluster& c = run.cluster;
  const auto which = someOsds(c, 1 + c.world.random().below(most));
  const Duration lasts = 2s + upTo(c.world, 10s);
  if (c.world.chance(0.7)) untilStaged(run);
  sendAway(c, which, [&] { run.go(lasts); });
}

void putIn(SimCluster& c, OsdId osd, bool in) {
  c.administer([&](schema::Mutation::Builder m) {
    auto set = m.initOsdSet();
    set.setId(osd.value);
    set.setSetIn(true);
    set.setIn(in);
  });
}

void removeOsd(SimCluster& c, OsdId osd, bool force) {
  c.administer([&](schema::Mutation::Builder m) {
    auto remove = m.initOsdRemove();
    remove.setId(osd.value);
    remove.setForce(force);
  });
}

}  // namespace cairn::sim::test
