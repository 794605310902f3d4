#include "test/sim/seeds.h"

#include <doctest/doctest.h>

#include <cstdlib>
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

}  // namespace cairn::sim::test
