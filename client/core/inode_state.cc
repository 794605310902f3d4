#include "client/core/inode_state.h"

#include <algorithm>

namespace cairn::client {

void InodeState::learn(const ServerAttr& a) {
  // Answers may overtake each other.
  if (loaded_ && a.changeVersion < server_.changeVersion) return;
  server_ = a;
  if (!loaded_) dataVersion_ = a.dataVersion;
  loaded_ = true;
}

void InodeState::learnOwn(const ServerAttr& a) {
  learn(a);
  dataVersion_ = std::max(dataVersion_, a.dataVersion);
}

bool InodeState::takeOver(const ServerAttr& a) {
  const bool changed = loaded_ && a.dataVersion != dataVersion_;
  learn(a);
  dataVersion_ = a.dataVersion;
  return changed;
}

void InodeState::wrote(int64_t nowNs) {
  mtimeNs_ = nowNs;
  ++writes_;
}

void InodeState::stored(uint64_t end) {
  storedEnd_ = std::max(storedEnd_, end);
  uncommitted_ = true;
}

void InodeState::resized() {
  storedEnd_ = 0;
  mtimeNs_.reset();
  uncommitted_ = false;
}

InodeState::Commit InodeState::beginCommit() {
  uncommitted_ = false;
  return {grown() ? storedEnd_ : 0, mtimeNs_, writes_};
}

void InodeState::committed(const Commit& commit) {
  if (storedEnd_ <= server_.size) storedEnd_ = 0;
  if (writes_ == commit.writes) mtimeNs_.reset();
}

void InodeState::abandonCommit() {
  storedEnd_ = 0;
  mtimeNs_.reset();
  uncommitted_ = false;
}

uint64_t InodeState::size(uint64_t dirtyEnd) const {
  return std::max({server_.size, storedEnd_, dirtyEnd});
}

Attr InodeState::merged(uint64_t dirtyEnd) const {
  Attr a = server_;
  if (!S_ISREG(a.mode)) return a;
  uint64_t now = size(dirtyEnd);
  if (now > a.size) {
    // As if what is still here were stored.
    a.blocks512 += (roundUp(now, kBlockSize) - roundUp(a.size, kBlockSize)) / 512;
    a.size = now;
  }
  if (mtimeNs_) {
    a.mtimeNs = *mtimeNs_;
    a.ctimeNs = std::max(a.ctimeNs + 1, a.mtimeNs);  // what commitWrite makes of it
  }
  return a;
}

}  // namespace cairn::client
