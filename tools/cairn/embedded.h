// An embedded cluster: all daemons of a small cluster as processes of this machine, kept in one
// directory.
//
//   DIR/embedded.json   what `up` decided: ports, number of OSDs, copies, mount point
//   DIR/mds/ osd1/ ...  the daemons' data
//   DIR/run/NAME.pid    process id; the file is flock(2)ed by the daemon for as long as it lives
//   DIR/log/NAME.log
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/network.h"

namespace cairn::tools {

struct EmbeddedOsd {
  unsigned number = 0;  // directory osdN
  uint16_t port = 0;
};

class Embedded {
 public:
  // kNotFound with what to do if there is no cluster in `directory`.
  static Result<Embedded> load(const std::string& directory);
  static bool exists(const std::string& directory);
  // A new one; nothing is written until save().
  static Embedded make(std::string directory);
  // Durable when it returns.
  [[nodiscard]] Result<void> save() const;

  std::string directory;
  uint16_t mdsPort = 0;
  unsigned replicas = 0;
  std::vector<EmbeddedOsd> osds;
  std::string mount;      // "" = not mounted by `up`
  uint64_t osdBytes = 0;  // size of each OSD's store

  [[nodiscard]] Endpoint mdsEndpoint() const { return {"127.0.0.1", mdsPort}; }
  [[nodiscard]] std::string path(const std::string& name) const { return directory + "/" + name; }
};

// A port that nothing listens on now.
Result<uint16_t> freePort();

// One daemon of an embedded cluster as a process.
class DaemonProcess {
 public:
  DaemonProcess(const Embedded& cluster, std::string name);
  // The process id if it runs.
  [[nodiscard]] std::optional<int> running() const;
  // Starts `argv` in a session of its own, with its output in the log, and waits for its line
  // "ready ...". If it ends before, the error is the last line that it wrote.
  [[nodiscard]] Result<void> start(const std::vector<std::string>& argv, int timeoutSec) const;
  // Sends `signal` and waits for the end. kTimeout if it has not come.
  [[nodiscard]] Result<void> stop(int signal, int timeoutSec) const;
  // Waits for the end of a process that was told otherwise.
  [[nodiscard]] Result<void> awaitEnd(int timeoutSec) const;

 private:
  std::string name_, pidFile_, logFile_;
};

// Where a sibling binary ("cairn-mds") of this program is: beside it, in the build tree, or on
// PATH.
Result<std::string> siblingBinary(const std::string& name);
// This program's own path.
std::string ownPath();

}  // namespace cairn::tools
