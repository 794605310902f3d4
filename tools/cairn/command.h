// What the commands of `cairn` share: which cluster they talk to, how they ask it, how they fail.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/env.h"
#include "common/base/result.h"
#include "common/cluster/cluster_map.h"
#include "common/net/network.h"
#include "common/reactor/uring_reactor.h"
#include "common/schema/mds.capnp.h"
#include "common/wire/rpc.h"

namespace CLI {
class App;
}

namespace cairn::tools {

// The options that every command takes.
struct Target {
  std::string data;     // --data DIR: an embedded cluster
  std::string cluster;  // --cluster ADDR[,ADDR...]: any other
  // The MDS addresses: of --cluster, or of the embedded cluster in --data, or in the default data
  // directory.
  [[nodiscard]] Result<std::vector<Endpoint>> endpoints() const;
};
std::string defaultDataDirectory();  // ~/.local/share/cairn

// Adds --data and --cluster.
void addTargetOptions(CLI::App& app, Target& target);

// Runs `body` in a fresh world (reactor, network, ...) and gives the exit code: 0, or 1 after
// printing "cairn: error" to standard error.
int runInWorld(const std::function<Task<Result<void>>(Env&, UringReactor&)>& body);

// Unix time as 2026-01-31T23:59:59Z.
std::string timeText(int64_t ns);

// One line per failure, the same shape everywhere.
void printError(const Error& error);

// A connection to the metadata servers for asking. close() before it dies.
class MdsConnection {
 public:
  MdsConnection(Env& env, std::vector<Endpoint> servers);
  // Tries the servers in turn; kUnavailable names them all and says what to look at.
  Task<Result<InMessage>> ask(std::function<void(schema::MdsRequest::Builder)> fill,
                              Duration timeout = 5s);
  Task<void> close();

 private:
  Env& env_;
  std::vector<Endpoint> servers_;
  std::vector<std::unique_ptr<RpcClient>> clients_;
};

// The inode that PATH names on a mounted Cairn filesystem, and the servers of that mount.
struct MountedPath {
  InodeId ino;
  bool isDirectory = false;
  std::vector<Endpoint> servers;
};
Result<MountedPath> mountedPath(const std::string& path);

// The commands. Each adds its subcommand to `app`; its callback sets `exitCode`.
void addUpCommand(CLI::App& app, int& exitCode);
void addDownCommand(CLI::App& app, int& exitCode);
void addMountCommand(CLI::App& app, int& exitCode);
void addStatusCommand(CLI::App& app, int& exitCode);
void addDfCommand(CLI::App& app, int& exitCode);
void addOsdCommand(CLI::App& app, int& exitCode);
void addPoolCommand(CLI::App& app, int& exitCode);
void addLayoutCommand(CLI::App& app, int& exitCode);
void addStatCommand(CLI::App& app, int& exitCode);
void addWhyCommand(CLI::App& app, int& exitCode);
void addScrubCommand(CLI::App& app, int& exitCode);
void addFsckCommand(CLI::App& app, int& exitCode);

// `mount.cairn SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]`, as mount(8) calls its helpers.
int mountHelperMain(int argc, char** argv);

}  // namespace cairn::tools
