#include "osd/service/healer.h"

#include "common/logging/log.h"

namespace cairn::osd {

Task<Result<uint64_t>> Healer::heal(GroupRef group, ChunkId chunk, BlockRange range) {
  uint64_t healed = 0;
  Result<void> outcome;
  for (uint32_t block = range.from; block < range.to; ++block) {
    auto own = co_await store_.read(chunk, static_cast<uint32_t>(block * kBlockSize),
                                    static_cast<uint32_t>(kBlockSize));
    if (own) continue;
    if (own.error().code != Errc::kCorrupt) co_return fail(own.error());
    auto done = co_await healBlock(group, chunk, block);
    if (done)
      ++healed;
    else
      outcome = std::move(done);
  }
  CO_TRY(outcome);
  co_return healed;
}

Task<Result<void>> Healer::healBlock(const GroupRef& group, ChunkId chunk, uint32_t block) {
  const auto offset = static_cast<uint32_t>(block * kBlockSize);
  const auto length = static_cast<uint32_t>(kBlockSize);
  const PlacementGroup* lists = groups_.lists(group->id);
  if (group->over || lists == nullptr)
    co_return fail(Errc::kStaleEpoch, "not the primary any more");
  const std::vector<OsdId> others(lists->osds.begin() + 1, lists->osds.end());
  for (OsdId other : others) {
    auto good = co_await members_.fetch(other, group->id, chunk, offset, length);
    if (!good) continue;
    if (group->over) co_return fail(Errc::kStaleEpoch, "not the primary any more");
    const Stamp unchanged{group->id, {}, {}};
    auto done = good->hole ? co_await store_.zero(chunk, offset, length, unchanged)
                           : co_await store_.write(chunk, offset, std::move(good->data),
                                                   std::move(good->crcs), unchanged);
    if (!done && (done.error().code == Errc::kIo || done.error().code == Errc::kCorrupt)) {
      onStoreError_(done.error());
      co_return fail(Errc::kUnavailable, "the store failed: " + done.error().message);
    }
    CO_TRY(done);
    ++probe_.healed;
    env_.log.warning("a damaged block was written anew",
                     {{"chunk", chunk.value}, {"block", block}, {"from_osd", other.value}});
    co_return Result<void>{};
  }
  ++probe_.unhealed;
  env_.log.error("a block is damaged and no other copy is good",
                 {{"chunk", chunk.value}, {"block", block}});
  co_return fail(Errc::kCorrupt, "block " + std::to_string(block) + " of chunk " +
                                     std::to_string(chunk.value) +
                                     " is damaged, and no other copy of it is good");
}

}  // namespace cairn::osd
