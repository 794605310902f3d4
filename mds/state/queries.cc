// What the state machine answers without changing anything.
#include <algorithm>

#include "mds/state/keys.h"
#include "mds/state/machine.h"

namespace cairn::mds {

Result<Inode> Machine::inode(InodeId ino) {
  auto inode = state_.inode(ino);
  TRY(inode);
  if (!*inode) return fail(Errc::kStale);
  return std::move(**inode);
}

Result<Inode> Machine::lookup(InodeId parent, std::string_view name) {
  auto dir = inode(parent);
  TRY(dir);
  if (!dir->isDirectory()) return fail(Errc::kNotDirectory);
  if (name.size() > kMaxNameBytes) return fail(Errc::kNameTooLong);
  if (name == ".") return dir;
  if (name == "..") return inode(dir->parent);
  auto entry = state_.dentry(parent, name);
  TRY(entry);
  if (!*entry) return fail(Errc::kNotFound);
  auto found = state_.inode((*entry)->ino);
  TRY(found);
  if (!*found)
    return fail(Errc::kCorrupt, "an entry of directory " + std::to_string(parent.value) +
                                    " names inode " + std::to_string((*entry)->ino.value) +
                                    ", which does not exist");
  return std::move(**found);
}

Result<std::vector<Dentry>> Machine::readdir(InodeId ino, uint64_t cookie, size_t limit) {
  auto dir = inode(ino);
  TRY(dir);
  if (!dir->isDirectory()) return fail(Errc::kNotDirectory);
  std::vector<Dentry> out;
  // A removed directory that is still open has no entries, not even these two.
  if (limit == 0 || dir->nlink == 0) return out;
  constexpr uint8_t kTypeDirectory = 4;  // DT_DIR
  if (cookie < kCookieDot) out.push_back({".", ino, kTypeDirectory, kCookieDot});
  if (cookie < kCookieDotDot && out.size() < limit)
    out.push_back({"..", dir->parent, kTypeDirectory, kCookieDotDot});
  if (out.size() == limit || cookie >= kLastCookie) return out;

  const uint64_t from = std::max(cookie, kCookieDotDot) + 1;
  const std::string prefix = keys::dentries(ino);
  Result<void> failure;
  TRY(state_.txn.scan(prefix, keys::dentriesFrom(ino, from),
                      [&](std::string_view key, std::string_view value) {
                        uint64_t at = keys::be64(key, 9);
                        // Names that share a cookie go out together: a reader who continues behind
                        // the cookie of the last one must have seen them all.
                        if (out.size() >= limit && out.back().cookie != at) return false;
                        auto entry = decodeDentry(key, value);
                        if (!entry) {
                          failure = fail(std::move(entry).error());
                          return false;
                        }
                        out.push_back({std::string(key.substr(17)), entry->ino, entry->type, at});
                        return true;
                      }));
  TRY(failure);
  return out;
}

Result<std::string> Machine::getxattr(InodeId ino, std::string_view name) {
  auto found = inode(ino);
  TRY(found);
  if (found->xattrCount == 0) return fail(Errc::kNoAttribute);
  const auto key = keys::xattr(ino, name);
  auto value = state_.txn.get(key);
  TRY(value);
  if (!*value) return fail(Errc::kNoAttribute);
  return decodeXattr(key, **value);
}

Result<std::vector<std::string>> Machine::listxattr(InodeId ino) {
  auto found = inode(ino);
  TRY(found);
  if (found->xattrCount == 0) return std::vector<std::string>();
  return state_.xattrNames(ino, found->xattrCount);
}

Result<std::vector<Chunk>> Machine::chunks(InodeId ino, uint32_t first, uint32_t count) {
  auto file = inode(ino);
  TRY(file);
  if (file->chunkCount == 0 || first >= kMaxChunkIndex) return std::vector<Chunk>();
  const uint32_t end = first + std::min(count, kMaxChunkIndex - first);
  auto records = state_.chunkRecords(ino, first, end, count);
  TRY(records);
  std::erase_if(*records, [&](const Chunk& c) { return file->condemns(c.index, c.id); });
  return records;
}

Result<std::vector<FileChunk>> Machine::fileChunks(InodeId ino, uint32_t index, size_t limit) {
  std::vector<FileChunk> out;
  if (limit == 0) return out;
  Result<void> failure;
  const std::string last = keys::chunk(ino, index);
  TRY(state_.txn.scan(
      std::string(1, keys::kChunk), last, [&](std::string_view key, std::string_view value) {
        if (key == last) return true;
        auto chunk = decodeChunk(key, value);
        if (!chunk) {
          failure = fail(std::move(chunk).error());
          return false;
        }
        out.push_back({InodeId(keys::be64(key, 1)), {keys::be32(key, 9), chunk->id, chunk->pool}});
        return out.size() < limit;
      }));
  TRY(failure);
  return out;
}

Result<std::vector<Garbage>> Machine::garbage(uint64_t after, size_t limit) {
  std::vector<Garbage> out;
  if (limit == 0 || state_.counters.counts.garbage == 0) return out;
  if (after >= state_.counters.nextGarbage) return out;
  const bool fromStart = after < garbageFrom_;
  const std::string prefix(1, keys::kGarbage);
  Result<void> failure;
  TRY(state_.txn.scan(prefix, keys::garbage(fromStart ? garbageFrom_ : after + 1),
                      [&](std::string_view key, std::string_view value) {
                        auto record = decodeChunk(key, value);
                        if (!record) {
                          failure = fail(std::move(record).error());
                          return false;
                        }
                        out.push_back({keys::be64(key, 1), record->id, record->pool});
                        return out.size() < limit;
                      }));
  TRY(failure);
  if (fromStart) garbageFrom_ = out.empty() ? state_.counters.nextGarbage : out.front().id;
  return out;
}

Result<std::vector<Orphan>> Machine::orphans(InodeId after, size_t limit) {
  std::vector<Orphan> out;
  for (auto it = state_.orphans.upper_bound(after); it != state_.orphans.end(); ++it) {
    if (out.size() == limit) break;
    out.push_back({it->first, it->second});
  }
  return out;
}

std::vector<SessionInfo> Machine::sessions() {
  std::vector<SessionInfo> out;
  out.reserve(state_.sessions.size());
  for (const auto& [id, session] : state_.sessions) out.push_back(session.info);
  return out;
}

bool Machine::remembers(SessionId session, uint64_t seq) const {
  auto it = state_.sessions.find(session);
  return it != state_.sessions.end() && it->second.remembered.contains(seq);
}

}  // namespace cairn::mds
