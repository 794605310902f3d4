// What an OSD answers: reads, writes and the rest of osd.capnp, for clients, other OSDs, the MDS
// and tools.
//
// Every data request is served only under a lease on the cluster map, by the right OSD of the
// group, for a sender whose map agrees with ours on that group (map_state.h). That is checked again
// once the blocks are locked, because both may have changed while the request waited.
//
// A client's session that the map fences is served nothing. Whoever may meet what such a session
// did carries the epoch of its fence (OsdRequest.mapEpoch), and waits here until our map is as new.
// Invariant: after a request that carried the fence's epoch was let in, no mutation of a fenced
// session is ordered; those ordered before still hold the locks of their blocks.
//
// A read locks its blocks shared, a mutation exclusive and until every replica has it (see
// replicator.h): what a read returns is durable on every in-sync replica. A clone is a read of its
// source and a mutation of its target.
//
// Errors: kUnavailable and kBusyTryLater: try again; kStaleEpoch: fetch the map (the text says our
// epoch); kSessionExpired: fenced; kStale: the chunk was removed; kCorrupt, kIo: of the stored
// data; kNoSpace; kInvalid: the request makes no sense. One reactor thread.
#pragma once

#include <functional>
#include <span>

#include "common/base/env.h"
#include "common/wire/rpc.h"
#include "osd/service/chunk_table.h"
#include "osd/service/erasure/shard_rebuilder.h"
#include "osd/service/erasure/stripe_resolver.h"
#include "osd/service/erasure/stripe_writer.h"
#include "osd/service/group_table.h"
#include "osd/service/healer.h"
#include "osd/service/map_state.h"
#include "osd/service/mds_link.h"
#include "osd/service/peering.h"
#include "osd/service/peers.h"
#include "osd/service/probe.h"
#include "osd/service/recovery.h"
#include "osd/service/replicator.h"
#include "osd/service/scrubber.h"
#include "osd/store.h"

namespace cairn::osd {

struct ServiceOptions {
  // For an answer of another member. One that is slower is taken out of the group.
  Duration memberTimeout = 5s;
  ScrubOptions scrub;
  // Of clients together; replication between OSDs is bounded by its connections, so that one OSD's
  // clients cannot starve another's writes.
  size_t maxOps = 4096;
  size_t maxBytes = 256 * kMiB;
};

// Makes `out` the answer to a read.
void fillRead(OutMessage& out, ReadData data);

class Service final : public RpcHandler {
 public:
  // All outlive it. `onStoreError` is told when the store cannot be changed any more.
  Service(Env& env, ServiceOptions options, Store& store, MapState& map, MapSource& source,
          std::function<void(const Error&)> onStoreError);
  ~Service() override;

  // Activates groups, brings members up to date, until close().
  void start();
  // From here on everything is refused; waits a little for what runs, then cuts its replication
  // off. The RpcServer is closed after it.
  Task<void> close();

  Identity identity() override;
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;

  [[nodiscard]] const ChunkTable& chunks() const { return chunks_; }
  [[nodiscard]] const GroupTable& groups() const { return groups_; }
  [[nodiscard]] RecoveryProgress recovery() { return recovery_.progress(); }
  [[nodiscard]] ScrubProgress scrub() { return scrubber_.progress(); }

 private:
  struct Admission;
  struct Gauge {
    std::string name, help;
    std::function<double()> sample;
  };
  std::vector<Gauge> gauges();

  // A request's frame of reference.
  struct Context {
    Target target;
    TimePoint deadline;  // the sender waits no longer
    SessionId session;   // of the client that asks; none for everybody else
    MapEpoch mapEpoch;   // our map is to be at least this new
  };

  // Where a request is served: the group in the map, and, for the primary, its primaryship.
  struct Served {
    Placement at;
    GroupRef group;
  };

  Task<Result<OutMessage>> dispatch(const InMessage& request, RpcPeer& peer);

  // ---- Clients, at the primary ----
  Task<Result<OutMessage>> read(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length);
  Task<Result<OutMessage>> write(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length,
                                 Buffer payload, Bytes crcs);
  Task<Result<OutMessage>> zero(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length);
  Task<Result<OutMessage>> allocate(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length);
  Task<Result<OutMessage>> clone(Context ctx, Mutation what);
  Task<Result<OutMessage>> extents(Context ctx, ChunkId chunk, uint32_t offset);
  Task<Result<OutMessage>> remove(Context ctx, std::vector<ChunkId> chunks);  // the MDS
  Task<Result<OutMessage>> mutateAll(Context ctx, Served served, std::vector<Mutation> pieces);

  // ---- The same in an erasure-coded pool (service_stripes.cc) ----
  Task<Result<OutMessage>> readStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                       uint32_t length);
  Task<Result<OutMessage>> writeStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                        uint32_t length, Buffer payload, Bytes crcs);
  Task<Result<OutMessage>> zeroStripes(Context ctx, ChunkId chunk, uint32_t offset,
                                       uint32_t length);
  Task<Result<OutMessage>> cloneStripes(Context ctx, Mutation what);
  Task<Result<OutMessage>> allocateStripes(Context ctx, ChunkId chunk, BlockRange blocks);
  Task<Result<OutMessage>> extentsOfStripes(Context ctx, ChunkId chunk, uint32_t offset);
  // Blocks of a chunk whose rows are locked. Damage is healed on the way if they are exclusively;
  // otherwise it is kCorrupt as long as it is not.
  Task<Result<ReadData>> readBlocks(GroupRef group, ChunkId chunk, BlockRange blocks);
  Task<Result<ReadData>> readHealed(GroupRef group, ChunkId chunk, BlockRange blocks);
  ReadData joined(const ShardLayout& layout, BlockRange blocks, const ShardRows& shards,
                  BlockRange rows);
  struct RowLock;
  Task<Result<std::shared_ptr<RowLock>>> lockRows(const Context& ctx, ChunkId chunk,
                                                  BlockRange blocks, bool exclusive,
                                                  Served& served);
  Task<Result<OutMessage>> changeAll(Context ctx, Served served, ChunkId chunk,
                                     std::vector<StripeWriter::Change> changes, Held lock);
  // Null for other pools.
  [[nodiscard]] const Pool* erasurePool(const Context& ctx) const;

  // ---- The primary, at another member (service_member.cc) ----
  Task<Result<OutMessage>> replicate(Context ctx, schema::Replicate::Reader request, Buffer payload,
                                     Identity sender);
  Task<Result<OutMessage>> changes(Context ctx, Changed after, uint32_t limit, Identity sender);
  Task<Result<OutMessage>> digest(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length,
                                  Identity sender);
  Task<Result<OutMessage>> fetch(Context ctx, ChunkId chunk, uint32_t offset, uint32_t length,
                                 Identity sender);
  Task<Result<OutMessage>> stagedOps(Context ctx, ChunkId chunk, Identity sender);
  Task<Result<OutMessage>> shardExtents(Context ctx, ChunkId chunk, uint32_t offset,
                                        Identity sender);
  static constexpr size_t kMaxExtents = 1024;  // of an answer
  Result<OutMessage> answerExtents(const Target& target, ChunkId stored, uint32_t offset);
  // A stretch of a chunk, locked shared.
  struct MemberRange {
    ChunkTable::Ref chunk;
    RangeLock::Guard guard;
    ChunkId stored;  // its name in the store
  };
  // For the primary of the group, or also for administrators.
  Task<Result<MemberRange>> lockForRead(const Context& ctx, ChunkId chunk, uint32_t offset,
                                        uint32_t length, Identity sender, bool admins);
  // kStaleEpoch unless the sender is the group's primary, and another OSD than we.
  Result<void> checkPrimary(const Placement& at, const Identity& sender) const;

  // ---- Anybody ----
  Task<Result<OutMessage>> stat(Context ctx, ChunkId chunk);
  Result<OutMessage> list(schema::Inventory::Reader what);
  Result<OutMessage> damaged(schema::Inventory::Reader what);
  Result<OutMessage> ping();

  // Map, lease and fence, refreshing the map when the sender's is newer; the primary also waits
  // until the group is active. Waits for one answer of an MDS at the most, or for the lack of it,
  // and for activation as long as the sender does, a second at most. No chunk: those of the group.
  Task<Result<Served>> admit(const Context& ctx, Need need, std::optional<ChunkId> chunk);
  // The same without waiting: to be asked once the lock is held.
  Result<Served> recheck(const Context& ctx, Need need, std::optional<ChunkId> chunk);
  // The blocks of one or more chunks that a mutation reads and changes.
  struct Locked {
    std::vector<ChunkTable::Ref> chunks;
    std::vector<RangeLock::Guard> guards;  // after the chunks: released first
  };
  Task<Locked> lock(const Mutation& m);
  // kSessionExpired if the sender is fenced.
  Result<void> checkFence(const Context& ctx);
  Result<Admission> take(size_t bytes);
  OutMessage reply(const Target& target) const;
  void mapChanged();

  Env& env_;
  const ServiceOptions options_;
  Store& store_;
  MapState& map_;
  MapSource& source_;
  Probe probe_;
  ChunkTable chunks_;
  GroupTable groups_;
  Peers peers_;
  Throttle throttle_;
  MemberCalls members_;
  Membership membership_;
  Healer healer_;
  Equalizer equalizer_;
  Replicator replicator_;
  ShardReader shards_;
  StripeWriter stripes_;
  StripeResolver resolver_;
  ShardRebuilder rebuilder_;
  Peering peering_;
  Recovery recovery_;
  Scrubber scrubber_;
  bool closed_ = false;
  size_t ops_ = 0, bytes_ = 0;  // of clients, in flight
  size_t running_ = 0;          // everything in flight
  Event quiet_;                 // closed and nothing runs
  TaskScope scope_;
};

}  // namespace cairn::osd
