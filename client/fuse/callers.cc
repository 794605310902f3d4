#include "client/fuse/callers.h"

#include <linux/fuse.h>
#include <signal.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

namespace cairn::client {

namespace {

constexpr uint64_t kExiting = 0x4;  // PF_EXITING of the kernel

struct Fate {
  bool ends = false;    // it closes what it had open
  bool killed = false;  // and gets no further in what it does
};

// proc(5), stat: what follows the name in parentheses, from the third field on. A signal that ends
// a process is pending as SIGKILL in each of its threads. Of a thread that is gone, or cannot be
// seen: nothing.
Fate fateOf(uint32_t thread) {
  std::ifstream file("/proc/" + std::to_string(thread) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return {};
  const size_t name = line.rfind(')');
  if (name == std::string::npos) return {};
  std::istringstream fields(line.substr(name + 1));
  std::string field;
  uint64_t flags = 0, pending = 0;
  for (int i = 3; i <= 31 && fields >> field; ++i) {
    if (i == 9) flags = std::strtoull(field.c_str(), nullptr, 10);
    if (i == 31) pending = std::strtoull(field.c_str(), nullptr, 10);
  }
  return {(flags & kExiting) != 0, (pending & (1u << (SIGKILL - 1))) != 0};
}

// Nobody waits for the answer, or there is none.
bool counts(uint32_t opcode) {
  switch (opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return false;
    default:
      return true;
  }
}

}  // namespace

void Callers::asked(std::span<const uint8_t> request, TimePoint now) {
  fuse_in_header header;
  if (request.size() < sizeof header) return;
  std::memcpy(&header, request.data(), sizeof header);
  // Without a thread: pages that the kernel writes back, or a caller of another pid namespace.
  if (header.pid == 0 || !counts(header.opcode)) return;
  Request& r = requests_[header.unique];
  r = {.thread = header.pid,
       .opcode = header.opcode,
       .ino = InodeId(header.nodeid),
       .target = {},
       .at = now};
  fuse_copy_file_range_in copy;
  if (header.opcode != FUSE_COPY_FILE_RANGE || request.size() < sizeof header + sizeof copy) return;
  std::memcpy(&copy, request.data() + sizeof header, sizeof copy);
  r.target = InodeId(copy.nodeid_out);
}

std::optional<std::array<InodeId, 2>> Callers::swallowed(uint64_t unique) {
  auto it = requests_.find(unique);
  if (it == requests_.end()) return std::nullopt;
  const Request request = it->second;
  requests_.erase(it);
  if (!request.given) return std::nullopt;
  return std::array{request.ino, request.target};
}

std::vector<uint64_t> Callers::abandoned(TimePoint since) {
  std::vector<uint64_t> out;
  for (auto& [unique, request] : requests_) {
    if (request.given || request.at > since) continue;
    const Fate fate = fateOf(request.thread);
    if (!fate.killed && !(fate.ends && request.opcode == FUSE_FLUSH)) continue;
    request.given = true;
    out.push_back(unique);
  }
  return out;
}

}  // namespace cairn::client
