// Running another program and waiting for it.
#pragma once

#include <string>
#include <vector>

namespace cairn::tools {
// The exit code, or 127 if it could not be started.
int runAndWait(const std::vector<std::string>& argv);
}  // namespace cairn::tools
