#include "test/unit/client/core/fake_osd.h"

#include <algorithm>
#include <cstring>

#include "common/crc/crc32c.h"
#include "common/sim/sim_world.h"

namespace cairn::client::test {

void FakeStorage::write(uint64_t chunk, uint32_t offset, Bytes bytes) {
  auto& blocks = chunks[chunk];
  for (size_t done = 0; done < bytes.size();) {
    uint32_t at = offset + static_cast<uint32_t>(done);
    auto& block = blocks[at / kBlockSize];
    block.resize(kBlockSize);
    size_t n = std::min<size_t>(bytes.size() - done, kBlockSize - at % kBlockSize);
    std::memcpy(block.data() + at % kBlockSize, bytes.data() + done, n);
    done += n;
  }
}

void FakeStorage::zero(uint64_t chunk, uint32_t offset, uint32_t length) {
  auto it = chunks.find(chunk);
  if (it == chunks.end()) return;
  uint32_t end = offset + length;
  for (auto b = it->second.lower_bound(offset / kBlockSize);
       b != it->second.end() && uint64_t{b->first} * kBlockSize < end;) {
    uint32_t base = b->first * static_cast<uint32_t>(kBlockSize);
    uint32_t from = std::max(offset, base), to = std::min<uint32_t>(end, base + kBlockSize);
    if (to - from == kBlockSize) {
      b = it->second.erase(b);
    } else {
      std::memset(b->second.data() + (from - base), 0, to - from);
      ++b;
    }
  }
}

void FakeStorage::clone(uint64_t source, uint32_t from, uint64_t target, uint32_t at,
                        uint32_t length) {
  auto& to = chunks[target];
  const auto& blocks = chunks[source];
  for (uint32_t i = 0; i < length / kBlockSize; ++i) {
    const auto n = static_cast<uint32_t>(at / kBlockSize + i);
    auto b = blocks.find(static_cast<uint32_t>(from / kBlockSize + i));
    if (b == blocks.end())
      to.erase(n);
    else
      to[n] = b->second;
  }
}

std::vector<uint8_t> FakeStorage::read(uint64_t chunk, uint32_t offset, uint32_t length) const {
  std::vector<uint8_t> out(length);
  auto it = chunks.find(chunk);
  if (it == chunks.end()) return out;
  for (auto b = it->second.lower_bound(offset / kBlockSize);
       b != it->second.end() && uint64_t{b->first} * kBlockSize < uint64_t{offset} + length; ++b)
    std::memcpy(out.data() + (b->first * kBlockSize - offset), b->second.data(), kBlockSize);
  return out;
}

size_t FakeStorage::blocks() const {
  size_t n = 0;
  for (const auto& [id, blocks] : chunks) n += blocks.size();
  return n;
}

Task<Result<OutMessage>> FakeOsd::handle(const InMessage& message, RpcPeer& peer) {
  auto r = message.body<schema::OsdRequest>();
  clientSession = peer.identity().peer;
  if (delay)
    if (Duration d = delay(); d != Duration::zero()) co_await sleepFor(reactor_, d);
  Fault f = fault ? fault(r) : Fault::kNone;
  if (f == Fault::kDropBefore) peer.disconnect();
  if (f == Fault::kRefuse || f == Fault::kDropBefore) co_return fail(Errc::kUnavailable, "fault");
  if (refuse)
    if (Errc code = refuse(r); code != Errc::kOk) co_return fail(code, "fake");
  size_t bytes = message.payload().size();
  storage_.bytesInFlight += bytes;
  storage_.maxBytesInFlight = std::max(storage_.maxBytesInFlight, storage_.bytesInFlight);
  if (r.isWrite()) co_await writesMayGo_.wait();
  storage_.bytesInFlight -= bytes;
  auto out = answer(r, message);
  if (f == Fault::kDropAfter) peer.disconnect();
  co_return out;
}

Result<OutMessage> FakeOsd::answer(schema::OsdRequest::Reader r, const InMessage& message) {
  auto group = map_.group(PoolId{r.getPool()}, PgIndex{r.getPg()});
  if (!group || (*group)->epoch.value != r.getPgEpoch() || (*group)->osds.front() != id_)
    return fail(Errc::kStaleEpoch, "fake");
  OutMessage out;
  auto reply = out.body<schema::OsdReply>();
  reply.setNearlyFull(nearlyFull);
  auto note = [&](const char* what, uint64_t chunk, uint32_t offset, uint32_t length) {
    events_.push_back(std::string("osd ") + what + " " + std::to_string(chunk) + " " +
                      std::to_string(offset) + " " + std::to_string(length));
  };
  switch (r.which()) {
    case schema::OsdRequest::READ: {
      auto q = r.getRead();
      if (storage_.gone.contains(q.getChunk())) return fail(Errc::kStale, "removed");
      ++storage_.reads;
      storage_.readBytes += q.getLength();
      if (!storage_.chunks.contains(q.getChunk())) {
        reply.initRead().setHole(true);
        return out;
      }
      auto bytes = storage_.read(q.getChunk(), q.getOffset(), q.getLength());
      auto crcs = blockCrcs(q.getOffset(), bytes);
      Bytes wire = crcBytes(crcs);
      reply.initRead().setCrcs({wire.data(), wire.size()});
      if (damageReads > 0) {
        --damageReads;
        bytes[bytes.size() / 2] ^= 1;
      }
      static BufferPool pool;
      out.addPayload(pool.copyOf(bytes));
      return out;
    }
    case schema::OsdRequest::WRITE: {
      auto q = r.getWrite();
      if (storage_.gone.contains(q.getChunk())) return fail(Errc::kStale, "removed");
      auto crcs = q.getCrcs();
      if (message.payload().size() != q.getLength() ||
          !blockCrcsMatch(q.getOffset(), message.payload().bytes(), {crcs.begin(), crcs.size()}))
        return fail(Errc::kCorrupt, "damaged");
      storage_.write(q.getChunk(), q.getOffset(), message.payload().bytes());
      note("write", q.getChunk(), q.getOffset(), q.getLength());
      reply.setVersion(1);
      return out;
    }
    case schema::OsdRequest::ZERO: {
      auto q = r.getZero();
      storage_.zero(q.getChunk(), q.getOffset(), q.getLength());
      note("zero", q.getChunk(), q.getOffset(), q.getLength());
      reply.setVersion(1);
      return out;
    }
    case schema::OsdRequest::ALLOCATE: {
      auto q = r.getAllocate();
      note("allocate", q.getChunk(), q.getOffset(), q.getLength());
      reply.setVersion(1);
      return out;
    }
    case schema::OsdRequest::CLONE: {
      auto q = r.getClone();
      const Pool& pool = map_.pools.at(PoolId{r.getPool()});
      for (uint64_t chunk : {q.getSource(), q.getTarget()}) {
        if (storage_.gone.contains(chunk)) return fail(Errc::kStale, "removed");
        if (pool.pgOf(ChunkId{chunk}).value != r.getPg()) return fail(Errc::kInvalid, "group");
      }
      if (!storage_.chunks.contains(q.getSource())) return fail(Errc::kStale, "not here");
      storage_.clone(q.getSource(), q.getSourceOffset(), q.getTarget(), q.getTargetOffset(),
                     q.getLength());
      note("clone", q.getTarget(), q.getTargetOffset(), q.getLength());
      reply.setVersion(1);
      return out;
    }
    case schema::OsdRequest::EXTENTS: {
      auto q = r.getExtents();
      std::vector<std::pair<uint32_t, uint32_t>> found;
      for (const auto& [block, bytes] : storage_.chunks[q.getChunk()]) {
        auto at = static_cast<uint32_t>(block * kBlockSize);
        if (at + kBlockSize <= q.getOffset()) continue;
        if (!found.empty() && found.back().first + found.back().second == at)
          found.back().second += kBlockSize;
        else
          found.emplace_back(at, kBlockSize);
      }
      auto e = reply.initExtents();
      e.setEnd(kChunkSize);
      auto list = e.initData(static_cast<uint32_t>(found.size()));
      for (uint32_t i = 0; i < found.size(); ++i) {
        list[i].setOffset(found[i].first);
        list[i].setLength(found[i].second);
      }
      return out;
    }
    default:
      return fail(Errc::kNotSupported, "fake");
  }
}

}  // namespace cairn::client::test
