#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/sim/sim_disk.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

namespace {

constexpr size_t kSector = 512;
// Versions of one unsynced block that are kept; the middle ones of more are forgotten, which only
// narrows what a power loss may leave.
constexpr size_t kMaxVersions = 4;

const BlockBytes& bytesOf(const BlockRef& ref) {
  static const BlockBytes zeros{};
  return ref ? *ref : zeros;
}

}  // namespace

// ---- StoredFile ----

void StoredFile::read(uint64_t offset, MutBytes into) const {
  for (size_t done = 0; done < into.size(); done += kBlockSize) {
    auto it = blocks_.find((offset + done) / kBlockSize);
    if (it == blocks_.end())
      std::memset(into.data() + done, 0, kBlockSize);
    else
      std::memcpy(into.data() + done, bytesOf(now(it->second)).data(), kBlockSize);
  }
}

void StoredFile::write(uint64_t offset, Bytes bytes, bool durable) {
  ++version_;
  for (size_t done = 0; done < bytes.size(); done += kBlockSize) {
    const uint64_t index = (offset + done) / kBlockSize;
    auto copy = std::make_shared<BlockBytes>();
    std::memcpy(copy->data(), bytes.data() + done, kBlockSize);
    Block& block = blocks_[index];
    if (durable) {
      block.durable = std::move(copy);
      block.unsynced.clear();
      dirty_.erase(index);
      continue;
    }
    if (block.unsynced.size() == kMaxVersions) block.unsynced.erase(block.unsynced.begin() + 1);
    block.unsynced.push_back({version_, std::move(copy)});
    dirty_.insert(index);
  }
}

void StoredFile::syncTo(uint64_t version) {
  for (auto it = dirty_.begin(); it != dirty_.end();) {
    Block& block = blocks_[*it];
    auto later = std::ranges::find_if(block.unsynced,
                                      [version](const Version& v) { return v.number > version; });
    if (later != block.unsynced.begin()) block.durable = std::prev(later)->bytes;
    block.unsynced.erase(block.unsynced.begin(), later);
    it = block.unsynced.empty() ? dirty_.erase(it) : std::next(it);
  }
}

void StoredFile::losePower(Random& random, uint64_t tornPer1024) {
  for (uint64_t index : dirty_) {
    Block& block = blocks_[index];
    std::vector<BlockRef> candidates{block.durable};
    for (const Version& v : block.unsynced) candidates.push_back(v.bytes);
    BlockRef left = candidates[random.below(candidates.size())];
    if (random.chance(tornPer1024, 1024)) {
      const BlockRef other = candidates[random.below(candidates.size())];
      auto torn = std::make_shared<BlockBytes>(bytesOf(left));
      for (size_t at = 0; at < kBlockSize; at += kSector)
        if (random.below(2) == 0)
          std::memcpy(torn->data() + at, bytesOf(other).data() + at, kSector);
      left = std::move(torn);
    }
    block.durable = std::move(left);
    block.unsynced.clear();
  }
  dirty_.clear();
}

void StoredFile::flipBit(uint64_t byteOffset, unsigned bit) {
  CAIRN_ASSERT(byteOffset < size_ && bit < 8, "a bit of the file");
  Block& block = blocks_[byteOffset / kBlockSize];
  auto flipped = [&](const BlockRef& ref) {
    auto copy = std::make_shared<BlockBytes>(bytesOf(ref));
    (*copy)[byteOffset % kBlockSize] ^= static_cast<uint8_t>(1u << bit);
    return copy;
  };
  block.durable = flipped(block.durable);
  for (Version& v : block.unsynced) v.bytes = flipped(v.bytes);
}

// ---- SimDiskStore ----

std::vector<std::string> SimDiskStore::list() const {
  std::vector<std::string> names;
  for (const auto& [path, file] : files_) names.push_back(path);
  return names;
}

std::shared_ptr<StoredFile> SimDiskStore::find(const std::string& path) const {
  auto it = files_.find(path);
  return it == files_.end() ? nullptr : it->second;
}

Result<std::shared_ptr<StoredFile>> SimDiskStore::create(const std::string& path,
                                                         uint64_t sizeBytes) {
  if (files_.contains(path)) return fail(Errc::kExists, path + " exists already");
  uint64_t used = 0;
  for (const auto& [name, file] : files_) used += file->size();
  if (faults.capacityBytes &&
      sizeBytes > *faults.capacityBytes - std::min(used, *faults.capacityBytes))
    return fail(Errc::kNoSpace, "cannot create " + path + " with " + std::to_string(sizeBytes) +
                                    " bytes: no space left on its file system");
  auto file = std::make_shared<StoredFile>(path, sizeBytes);
  files_.emplace(path, file);
  return file;
}

bool SimDiskStore::anyBelow(const std::string& directory) const {
  const std::string prefix = directory + "/";
  auto startsSo = [&](const auto& it, const auto& end, const auto& nameOf) {
    return it != end && nameOf(*it).starts_with(prefix);
  };
  return startsSo(files_.lower_bound(prefix), files_.end(), [](auto& f) { return f.first; }) ||
         startsSo(directories.lower_bound(prefix), directories.end(), [](auto& d) { return d; });
}

Result<void> SimDiskStore::remove(const std::string& path) {
  if (directories.contains(path)) {
    if (anyBelow(path)) return fail(Errc::kNotEmpty, path + " is not empty");
    directories.erase(path);
    return {};
  }
  auto it = files_.find(path);
  if (it == files_.end()) return fail(Errc::kNotFound, path + ": no such file or directory");
  if (it->second->lockOwner != nullptr) return fail(Errc::kBusy, path + " is in use");
  files_.erase(it);
  return {};
}

Duration SimDiskStore::transit(Duration base, size_t bytes) {
  busyUntil_ = std::max(busyUntil_, world_.now());
  if (options.bytesPerSec != 0)
    busyUntil_ += Duration(static_cast<int64_t>(bytes) * 1'000'000'000 /
                           static_cast<int64_t>(options.bytesPerSec));
  return busyUntil_ - world_.now() + world_.jittered(base, options.jitter);
}

namespace {
// Stores some blocks of a write that will never complete: all, none, or each by chance.
void storeSome(const WriteInFlight& w, Random& random) {
  const uint64_t how = random.below(3);
  uint64_t at = w.offset;
  for (const Buffer& part : *w.parts)
    for (size_t done = 0; done < part.size(); done += kBlockSize, at += kBlockSize)
      if (how == 0 || (how == 1 && random.below(2) == 0))
        w.file->write(at, part.bytes().subspan(done, kBlockSize), false);
}
}  // namespace

void SimDiskStore::abandon(SimNode& node) {
  for (const WriteInFlight& w : inFlight)
    if (w.node == &node) storeSome(w, world_.random());
  std::erase_if(inFlight, [&node](const WriteInFlight& w) { return w.node == &node; });
  for (auto& [path, file] : files_)
    if (file->lockNode == &node) {
      file->lockNode = nullptr;
      file->lockOwner = nullptr;
    }
}

void SimDiskStore::losePower() {
  for (const WriteInFlight& w : inFlight) storeSome(w, world_.random());
  inFlight.clear();
  for (auto& [path, file] : files_) {
    file->losePower(world_.random(), static_cast<uint64_t>(faults.tornBlock * 1024));
    file->lockNode = nullptr;
    file->lockOwner = nullptr;
  }
}

}  // namespace cairn::sim
