#include "client/fuse/under_way.h"

#include <linux/fuse.h>

#include <cstring>

namespace cairn::client {

void UnderWay::asked(std::span<const uint8_t> request) {
  fuse_in_header header;
  if (request.size() < sizeof header) return;
  std::memcpy(&header, request.data(), sizeof header);
  const std::pair arrival{InodeId(header.nodeid), ++lastArrival_};
  switch (header.opcode) {
    case FUSE_READ:
    case FUSE_WRITE:
      data_.insert(arrival);
      break;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      break;
    default:
      return;
  }
  requests_.emplace(header.unique, arrival);
}

void UnderWay::answered(uint64_t unique) {
  auto it = requests_.find(unique);
  if (it == requests_.end()) return;
  data_.erase(it->second);
  requests_.erase(it);
  answered_.fire();
}

Task<void> UnderWay::ended(InodeId ino) {
  const uint64_t last = lastArrival_;
  auto some = [&] {
    auto first = data_.lower_bound({ino, 0});
    return first != data_.end() && first->first == ino && first->second <= last;
  };
  while (some()) co_await answered_.wait();
}

}  // namespace cairn::client
