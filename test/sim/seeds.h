// Which seeds a scenario is run with, and how to run one of them again.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace cairn::sim::test {

// The number in an environment variable.
std::optional<uint64_t> numberOf(const char* variable);

// Runs `scenario` once for each seed: CAIRN_SEED, or CAIRN_SEEDS of them, or `usual`. A failure
// prints the line that replays it.
void forSeeds(uint64_t usual, const std::function<void(uint64_t)>& scenario);

}  // namespace cairn::sim::test
