// The command line that all daemons have. Any thread; before the reactor runs.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>

#include "common/daemon/daemon.h"

namespace cairn {

struct CommandLine {
  std::optional<std::string> configFile;
  std::map<std::string, std::string> settings;  // "section.key" -> text
  int readyFd = 1;
};

// The parsed line, or the exit code after --help, --version (0) or a usage error (2), which has
// been printed.
std::variant<CommandLine, int> parseCommandLine(int argc, char** argv, const DaemonSpec& spec);

}  // namespace cairn
