#include "osd/service/member_calls.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "common/crc/crc32c.h"
#include "osd/service/request_checks.h"

namespace cairn::osd {

namespace {
constexpr uint32_t kChangesAtOnce = 4096;

template <class Builder>
void setRange(Builder request, ChunkId chunk, uint32_t offset, uint32_t length) {
  request.setChunk(chunk.value);
  request.setOffset(offset);
  request.setLength(length);
}
}  // namespace

BlockHash hashOf(Bytes block) {
  uint8_t full[SHA256_DIGEST_LENGTH];
  SHA256(block.data(), block.size(), full);
  BlockHash hash;
  std::copy_n(full, hash.size(), hash.begin());
  return hash;
}

Task<Result<InMessage>> MemberCalls::call(OsdId to, GroupId group, OutMessage message) {
  const PlacementGroup* lists = groups_.lists(group);
  if (lists == nullptr) co_return fail(Errc::kStaleEpoch, "the group is not in the map");
  auto request = message.body<schema::OsdRequest>();
  request.setPool(group.pool.value);
  request.setPg(group.pg.value);
  request.setPgEpoch(lists->epoch.value);
  co_return co_await peers_.call(to, std::move(message), timeout_);
}

Task<Result<InMessage>> MemberCalls::demand(OsdId to, GroupId group, OutMessage message) {
  auto answer = co_await call(to, group, std::move(message));
  // Damage there says nothing of ours.
  if (!answer && (answer.error().code == Errc::kCorrupt || answer.error().code == Errc::kIo))
    co_return fail(Errc::kUnavailable,
                   "osd." + std::to_string(to.value) + ": " + answer.error().text());
  co_return answer;
}

Task<Result<void>> MemberCalls::replicate(OsdId to, GroupId group, const Mutation* mutation,
                                          ChunkVersion number, ChunkVersion committed) {
  OpTimer timer(probe_.forward, env_.reactor.clock());
  OutMessage m;
  auto replicate = m.body<schema::OsdRequest>().initReplicate();
  replicate.setVersion(number.value);
  replicate.setCommitted(committed.value);
  describe(replicate, *mutation);
  if (mutation->kind == Mutation::Kind::kWrite) m.addPayload(mutation->data);
  auto answer = co_await demand(to, group, std::move(m));
  if (!answer && answer.error().code == Errc::kNoSpace) peers_.noteSpace(to, true);
  CO_TRY(answer);
  try {
    peers_.noteSpace(to, answer->body<schema::OsdReply>().getNearlyFull());
  } catch (const kj::Exception&) {  // it has the change all the same
  }
  timer.ok();
  co_return Result<void>{};
}

Task<Result<MemberChanges>> MemberCalls::changes(OsdId to, GroupId group, Changed after) {
  OutMessage m;
  auto request = m.body<schema::OsdRequest>().initChanges();
  request.setAfter(after.version.value);
  request.setAfterChunk(after.chunk.value);
  request.setLimit(kChangesAtOnce);
  auto answer = co_await demand(to, group, std::move(m));
  CO_TRY(answer);
  auto reply = answer->body<schema::OsdReply>();
  if (!reply.isChanges()) co_return fail(Errc::kBadMessage, "not an answer to changes");
  auto got = reply.getChanges();
  MemberChanges out;
  out.state = {ChunkVersion{got.getCommitted()}, ChunkVersion{got.getLast()},
               ChunkVersion{got.getTrimmed()}};
  out.changes.reserve(got.getChanges().size());
  for (auto c : got.getChanges())
    out.changes.push_back({ChunkVersion{c.getVersion()}, ChunkId{c.getChunk()}, c.getRemoved()});
  out.more = got.getMore();
  if (out.more && (out.changes.empty() || !(after < out.changes.back())))
    co_return fail(Errc::kBadMessage, "a list of changes that does not go on");
  co_return out;
}

Task<Result<MemberDigest>> MemberCalls::digest(OsdId to, GroupId group, ChunkId chunk,
                                               uint32_t offset, uint32_t length) {
  OutMessage m;
  setRange(m.body<schema::OsdRequest>().initDigest(), chunk, offset, length);
  auto answer = co_await demand(to, group, std::move(m));
  CO_TRY(answer);
  auto reply = answer->body<schema::OsdReply>();
  if (!reply.isDigest()) co_return fail(Errc::kBadMessage, "not an answer to digest");
  auto got = reply.getDigest();
  MemberDigest out{got.getExists(), ChunkVersion{got.getVersion()}, got.getEnd(), {}};
  const Bytes hashes = asBytes(got.getHashes());
  out.hashes.resize(length / kBlockSize);
  if (hashes.size() != out.hashes.size() * sizeof(BlockHash))
    co_return fail(Errc::kBadMessage, "a digest of the wrong length");
  std::memcpy(out.hashes.data(), hashes.data(), hashes.size());
  co_return out;
}

Task<Result<ReadData>> MemberCalls::fetch(OsdId to, GroupId group, ChunkId chunk, uint32_t offset,
                                          uint32_t length) {
  OutMessage m;
  setRange(m.body<schema::OsdRequest>().initFetch(), chunk, offset, length);
  auto answer = co_await call(to, group, std::move(m));
  CO_TRY(answer);
  auto reply = answer->body<schema::OsdReply>();
  if (!reply.isRead()) co_return fail(Errc::kBadMessage, "not an answer to fetch");
  auto got = reply.getRead();
  ReadData out;
  out.version = ChunkVersion{got.getVersion()};
  out.hole = got.getHole();
  if (out.hole) co_return out;
  const Bytes crcs = asBytes(got.getCrcs());
  CO_TRY(checkPayload(offset, length, answer->payload(), crcs));
  out.data = answer->payload();
  out.crcs = toCrcs(crcs);
  co_return out;
}

Task<Result<std::vector<std::pair<uint32_t, uint32_t>>>> MemberCalls::extents(OsdId to,
                                                                              GroupId group,
                                                                              ChunkId chunk,
                                                                              uint32_t offset) {
  std::vector<std::pair<uint32_t, uint32_t>> all;
  while (true) {
    OutMessage m;
    auto request = m.body<schema::OsdRequest>().initExtents();
    request.setChunk(chunk.value);
    request.setOffset(offset);
    auto answer = co_await demand(to, group, std::move(m));
    CO_TRY(answer);
    auto reply = answer->body<schema::OsdReply>();
    if (!reply.isExtents()) co_return fail(Errc::kBadMessage, "not an answer to extents");
    for (auto e : reply.getExtents().getData()) all.emplace_back(e.getOffset(), e.getLength());
    const uint32_t end = reply.getExtents().getEnd();
    if (end >= kChunkSize) co_return all;
    if (end <= offset) co_return fail(Errc::kBadMessage, "a list of extents that does not go on");
    offset = end;
  }
}

Task<Result<MemberStaged>> MemberCalls::staged(OsdId to, GroupId group, ChunkId chunk) {
  OutMessage m;
  m.body<schema::OsdRequest>().initStaged().setChunk(chunk.value);
  auto answer = co_await demand(to, group, std::move(m));
  CO_TRY(answer);
  auto reply = answer->body<schema::OsdReply>();
  if (!reply.isStaged()) co_return fail(Errc::kBadMessage, "not an answer to staged");
  MemberStaged out;
  out.any = reply.getStaged().getAny();
  for (auto o : reply.getStaged().getOps())
    out.ops.push_back({ChunkVersion{o.getNumber()},
                       {o.getFromRow(), o.getToRow()},
                       o.getShards(),
                       o.getZero(),
                       o.getSlot(),
                       ChunkId{o.getSource()}});
  co_return out;
}

}  // namespace cairn::osd
