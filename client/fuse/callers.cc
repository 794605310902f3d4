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

// proc(5), stat: what follows the name in parentheses, from the third field on. A signal that ends
// a process is pending as SIGKILL in each of its threads.
bool waitsNoLonger(uint32_t thread) {
  std::ifstream file("/proc/" + std::to_string(thread) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return true;  // it is gone
  const size_t name = line.rfind(')');
  if (name == std::string::npos) return false;
  std::istringstream fields(line.substr(name + 1));
  std::string field;
  uint64_t flags = 0, pending = 0;
  for (int i = 3; i <= 31 && fields >> field; ++i) {
    if (i == 9) flags = std::strtoull(field.c_str(), nullptr, 10);
    if (i == 31) pending = std::strtoull(field.c_str(), nullptr, 10);
  }
  return (flags & kExiting) != 0 || (pending & (1u << (SIGKILL - 1))) != 0;
}

// Nobody waits for the answer, there is none, or an interruption is served as such (lock_ops).
bool counts(uint32_t opcode) {
  switch (opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_SETLK:
    case FUSE_SETLKW:
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
  // Without a thread: the kernel's own, writing back pages or reading ahead.
  if (header.pid == 0 || !counts(header.opcode)) return;
  requests_[header.unique] = {.thread = header.pid, .ino = InodeId(header.nodeid), .at = now};
}

bool Callers::answered(uint64_t unique, InodeId& ino) {
  auto it = requests_.find(unique);
  if (it == requests_.end()) return false;
  const Request request = it->second;
  requests_.erase(it);
  ino = request.ino;
  return request.given;
}

std::vector<uint64_t> Callers::abandoned(TimePoint since) {
  std::vector<uint64_t> out;
  for (auto& [unique, request] : requests_) {
    if (request.given || request.at > since || !waitsNoLonger(request.thread)) continue;
    request.given = true;
    out.push_back(unique);
  }
  return out;
}

}  // namespace cairn::client
