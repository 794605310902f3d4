// cairn: the command line of Cairn. Called as mount.cairn it is the helper of mount(8).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string_view>

#include "common/daemon/daemon.h"
#include "tools/cairn/command.h"

int main(int argc, char** argv) {
  using namespace cairn::tools;
  std::string_view name = argv[0];
  name = name.substr(name.rfind('/') + 1);
  // The second name is the one that mount(8) derives from what is mounted already.
  if (name == "mount.cairn" || name == "mount.fuse.cairn") return mountHelperMain(argc, argv);

  CLI::App app("Cairn: a distributed filesystem that people mount and trust with their data",
               "cairn");
  app.set_version_flag("--version", std::string("cairn ") + std::string(cairn::versionText()));
  app.require_subcommand(1);
  int exitCode = 0;
  addUpCommand(app, exitCode);
  addDownCommand(app, exitCode);
  addMountCommand(app, exitCode);
  addStatusCommand(app, exitCode);
  addDfCommand(app, exitCode);
  addOsdCommand(app, exitCode);
  addPoolCommand(app, exitCode);
  addLayoutCommand(app, exitCode);
  addStatCommand(app, exitCode);
  addWhyCommand(app, exitCode);
  addScrubCommand(app, exitCode);
  addFsckCommand(app, exitCode);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return exitCode;
}
