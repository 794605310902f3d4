#include "osd/store/metadata.h"

#include "common/crc/crc32c.h"

namespace cairn::osd {

namespace {

// Values end in a CRC over key and value: LevelDB checks its blocks, this the meaning.
void seal(std::string_view key, std::string& body) {
  uint32_t crc = crc32cExtend(crc32c(bytesOf(key)), bytesOf(body));
  body.append(reinterpret_cast<const char*>(&crc), sizeof crc);
}

std::optional<std::string_view> unseal(std::string_view key, std::string_view value) {
  if (value.size() < sizeof(uint32_t)) return std::nullopt;
  std::string_view body = value.substr(0, value.size() - sizeof(uint32_t));
  uint32_t stored = Decoder(value.substr(body.size())).get<uint32_t>();
  if (stored != crc32cExtend(crc32c(bytesOf(key)), bytesOf(body))) return std::nullopt;
  return body;
}

}  // namespace

std::string ChunkHeader::encode(std::string_view key) const {
  Encoder e;
  e.put(version.value);
  e.put(blocks);
  e.put(group.pool.value);
  e.put(group.pg.value);
  seal(key, e.out());
  return std::move(e.out());
}

std::optional<ChunkHeader> ChunkHeader::decode(std::string_view key, std::string_view value) {
  auto body = unseal(key, value);
  if (!body) return std::nullopt;
  Decoder d(*body);
  ChunkHeader h;
  h.version = ChunkVersion(d.get<uint64_t>());
  h.blocks = d.get<uint32_t>();
  h.group = {PoolId(d.get<uint32_t>()), PgIndex(d.get<uint32_t>())};
  if (!d.finished() || h.blocks > kChunkBlocks) return std::nullopt;
  return h;
}

std::string ChangeFlags::encode(std::string_view key) const {
  Encoder e;
  e.put(static_cast<uint8_t>(removed));
  seal(key, e.out());
  return std::move(e.out());
}

std::optional<ChangeFlags> ChangeFlags::decode(std::string_view key, std::string_view value) {
  auto body = unseal(key, value);
  if (!body) return std::nullopt;
  Decoder d(*body);
  const auto flags = d.get<uint8_t>();
  if (!d.finished() || flags > 1) return std::nullopt;
  return ChangeFlags{flags != 0};
}

std::string encodeGroupState(std::string_view key, const GroupState& state) {
  Encoder e;
  for (ChunkVersion v : {state.committed, state.last, state.trimmed}) e.put(v.value);
  seal(key, e.out());
  return std::move(e.out());
}

std::optional<GroupState> decodeGroupState(std::string_view key, std::string_view value) {
  auto body = unseal(key, value);
  if (!body) return std::nullopt;
  Decoder d(*body);
  GroupState state;
  for (ChunkVersion* v : {&state.committed, &state.last, &state.trimmed})
    *v = ChunkVersion(d.get<uint64_t>());
  if (!d.finished()) return std::nullopt;
  return state;
}

std::string StoreIdentity::encode() const {
  Encoder e;
  for (uint64_t v : {store.hi, store.lo, cluster.hi, cluster.lo}) e.put(v);
  seal(keys::kIdentity, e.out());
  return std::move(e.out());
}

std::optional<StoreIdentity> StoreIdentity::decode(std::string_view value) {
  auto body = unseal(keys::kIdentity, value);
  if (!body) return std::nullopt;
  Decoder d(*body);
  StoreIdentity id;
  for (uint64_t* v : {&id.store.hi, &id.store.lo, &id.cluster.hi, &id.cluster.lo})
    *v = d.get<uint64_t>();
  if (!d.finished()) return std::nullopt;
  return id;
}

namespace keys {

std::string header(ChunkId chunk) {
  Encoder e;
  e.put(static_cast<uint8_t>(kChunkPrefix));
  e.putBigEndian(chunk.value);
  return std::move(e.out());
}

std::string group(ChunkId chunk, uint32_t group) {
  Encoder e;
  e.put(static_cast<uint8_t>(kChunkPrefix));
  e.putBigEndian(chunk.value);
  e.putBigEndian(group * kGroupBlocks);
  return std::move(e.out());
}

std::optional<ChunkKey> parse(std::string_view key) {
  Decoder d(key);
  if (d.get<uint8_t>() != kChunkPrefix) return std::nullopt;
  ChunkKey k;
  k.chunk = ChunkId(d.getBigEndian<uint64_t>());
  if (d.finished()) return k;
  uint32_t block = d.getBigEndian<uint32_t>();
  k.group = block / kGroupBlocks;
  if (!d.finished() || block % kGroupBlocks != 0 || block >= kChunkBlocks) return std::nullopt;
  return k;
}

std::string removed(ChunkId chunk) {
  Encoder e;
  e.put(static_cast<uint8_t>(kRemovedPrefix));
  e.putBigEndian(chunk.value);
  return std::move(e.out());
}

std::optional<ChunkId> parseRemoved(std::string_view key) {
  Decoder d(key);
  if (d.get<uint8_t>() != kRemovedPrefix) return std::nullopt;
  const ChunkId chunk(d.getBigEndian<uint64_t>());
  if (!d.finished()) return std::nullopt;
  return chunk;
}

std::string groupState(GroupId group) {
  Encoder e;
  e.put(static_cast<uint8_t>(kGroupPrefix));
  e.putBigEndian(group.pool.value);
  e.putBigEndian(group.pg.value);
  return std::move(e.out());
}

std::optional<GroupId> parseGroupState(std::string_view key) {
  Decoder d(key);
  if (d.get<uint8_t>() != kGroupPrefix) return std::nullopt;
  GroupId group;
  group.pool = PoolId(d.getBigEndian<uint32_t>());
  group.pg = PgIndex(d.getBigEndian<uint32_t>());
  if (!d.finished()) return std::nullopt;
  return group;
}

std::string change(GroupId group, ChunkVersion version, ChunkId chunk) {
  Encoder e;
  e.out().reserve(kChangeGroupBytes + 2 * sizeof(uint64_t));
  e.put(static_cast<uint8_t>(kChangePrefix));
  e.putBigEndian(group.pool.value);
  e.putBigEndian(group.pg.value);
  e.putBigEndian(version.value);
  e.putBigEndian(chunk.value);
  return std::move(e.out());
}

std::optional<ChangeKey> parseChange(std::string_view key) {
  Decoder d(key);
  if (d.get<uint8_t>() != kChangePrefix) return std::nullopt;
  ChangeKey k;
  k.group.pool = PoolId(d.getBigEndian<uint32_t>());
  k.group.pg = PgIndex(d.getBigEndian<uint32_t>());
  k.version = ChunkVersion(d.getBigEndian<uint64_t>());
  k.chunk = ChunkId(d.getBigEndian<uint64_t>());
  if (!d.finished()) return std::nullopt;
  return k;
}

}  // namespace keys

Result<void> Metadata::alive() const {
  if (failed_) return fail(*failed_);
  return {};
}

Result<std::optional<std::string>> Metadata::get(std::string_view key) {
  if (auto it = buffer_.find(key); it != buffer_.end()) return it->second.value;
  TRY(alive());
  auto value = kv_->get(key);
  if (value) return std::optional<std::string>(std::move(*value));
  if (value.error().code == Errc::kNotFound) return std::optional<std::string>();
  return fail(std::move(value).error());
}

std::pair<Metadata::Buffer::iterator, bool> Metadata::change(std::string key,
                                                             std::optional<std::string> value) {
  auto [it, added] = buffer_.try_emplace(std::move(key));
  if (added)
    bufferedBytes_ += it->first.size();
  else if (it->second.value)
    bufferedBytes_ -= it->second.value->size();
  if (value) bufferedBytes_ += value->size();
  it->second.value = std::move(value);
  return {it, added};
}

void Metadata::put(std::string key, std::string value) {
  (void)change(std::move(key), std::move(value));
}

void Metadata::putNew(std::string key, std::string value) {
  // What the buffer deletes the database may have.
  if (auto [it, added] = change(std::move(key), std::move(value)); added) it->second.isNew = true;
}

void Metadata::del(std::string key) {
  auto [it, added] = change(std::move(key), std::nullopt);
  if (!it->second.isNew) return;
  bufferedBytes_ -= it->first.size();
  buffer_.erase(it);
}

Result<void> Metadata::scan(std::string_view from, const Visit& visit) {
  TRY(alive());
  auto stored = kv_->iterate();
  auto buffered = buffer_.lower_bound(from);
  for (stored->seek(from);;) {
    bool haveStored = stored->valid(), haveBuffered = buffered != buffer_.end();
    if (!haveStored && !haveBuffered) break;
    if (haveBuffered && (!haveStored || buffered->first <= stored->key())) {
      if (haveStored && buffered->first == stored->key()) stored->next();
      if (const auto& value = buffered->second.value; value && !visit(buffered->first, *value))
        return {};
      ++buffered;
    } else {
      if (!visit(stored->key(), stored->value())) return {};
      stored->next();
    }
    TRY(stored->status());
  }
  return stored->status();
}

Result<void> Metadata::flush(Lsn applied) {
  TRY(alive());
  KvBatch batch;
  for (const auto& [key, buffered] : buffer_) {
    if (buffered.value)
      batch.put(key, *buffered.value);
    else
      batch.del(key);
  }
  Encoder e;
  e.put(applied);
  batch.put(keys::kApplied, e.out());
  if (auto written = kv_->write(batch); !written) {
    failed_ = written.error();
    return fail(std::move(written).error());
  }
  buffer_.clear();
  bufferedBytes_ = 0;
  return {};
}

Result<void> Metadata::putDurably(std::string_view key, std::string_view value) {
  TRY(alive());
  KvBatch batch;
  batch.put(key, value);
  auto written = kv_->write(batch, true);
  if (!written) failed_ = written.error();
  return written;
}

Task<Result<void>> Metadata::sync() {
  CO_TRY(alive());
  auto synced = co_await kv_->sync();
  if (!synced) failed_ = synced.error();
  co_return synced;
}

}  // namespace cairn::osd
