#include "common/daemon/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace cairn {

std::variant<CommandLine, int> parseCommandLine(int argc, char** argv, const DaemonSpec& spec) {
  CommandLine line;
  std::string configFile;
  std::vector<std::string> settings;
  CLI::App app(spec.description, spec.program);
  app.set_version_flag("--version", spec.program + " " + std::string(versionText()));
  app.add_option("--config", configFile, "Settings in TOML; see cairn.conf(5)")->type_name("FILE");
  app.add_option("--set", settings, "One setting, instead of the file's; may be given many times")
      ->type_name("SECTION.KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--ready-fd", line.readyFd,
                 "Where the line \"ready HOST:PORT\" is written when the daemon serves; "
                 "1, standard output, unless given")
      ->type_name("FD")
      ->check(CLI::NonNegativeNumber);
  if (spec.addOptions) spec.addOptions(app);
  try {
    app.parse(argc, argv);
    for (const std::string& s : settings) {
      size_t eq = s.find('=');
      if (eq == std::string::npos || eq == 0)
        throw CLI::ValidationError("--set " + s, "is not of the form SECTION.KEY=VALUE");
      line.settings[s.substr(0, eq)] = s.substr(eq + 1);
    }
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help, --version
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "%s: %s; see %s --help\n", spec.program.c_str(), e.what(),
                 spec.program.c_str());
    return 2;
  }
  if (!configFile.empty()) line.configFile = configFile;
  return line;
}

}  // namespace cairn
