@0xb3a1c0de00000003;
# What an OSD is asked. Data travels as the frame's raw payload, never inside these.
#
# Checksums: `crcs` is one little-endian CRC32C (4 bytes) for each 4 KiB block of the chunk that the payload touches; for a
# block that the payload covers only in part, of the covered bytes. Whoever receives a payload verifies it.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("cairn::schema");
using Types = import "types.capnp";

#
# Erasure-coded pools: clients name chunks and their bytes, and ask the primary, as in replicated ones. Between OSDs a chunk id
# means the receiver's shard of the chunk (PgInfo.shards), in which blocks are rows; with the top bit set, the staged chunk
# beside it.

struct OsdRequest {
  pool @0 :UInt32;
  pg @1 :UInt32;
  pgEpoch @2 :UInt64;      # the sender's epoch of this PG; older than ours -> kStaleEpoch
  union {
    read @3 :Read;         # primary only
    write @4 :Write;       # primary only; the reply means durable on every in-sync replica
    zero @5 :Zero;         # primary only; durable likewise
    remove @6 :RemoveChunks;     # from the MDS, to the primary; durable likewise; idempotent
    allocate @7 :Zero;     # primary only; reserves space: later writes there do not fail for lack of it
    extents @8 :Extents;   # primary only; where data is, for SEEK_DATA / SEEK_HOLE. From the primary: of a member's shard
    stat @9 :Stat;         # any member
    replicate @10 :Replicate;  # from the primary, to the others
    list @11 :Inventory;        # any member: the chunks it stores, for fsck
    ping @12 :Void;
    clone @15 :Clone;      # primary only; durable likewise
    changes @16 :Changes;  # from the primary, to the others: what they hold
    digest @17 :Digest;    # from the primary, to the others: whether theirs equals its own; from fsck
    fetch @18 :Read;       # from the primary, to the others: for what it lost
    staged @20 :Stat;      # from the primary, to the others: changes of stripes that are written down there
    damaged @21 :Inventory; # of the groups that it leads: what its last scrub of each found lost
    scrub @19 :ScrubRequest;   # from tools: all groups that it leads are due now; answered at once
  }
  session @13 :UInt64;     # of the client that asks; 0 for daemons. A fenced one -> kSessionExpired (ClusterMap.fence)
  mapEpoch @14 :UInt64;    # an OSD with an older map gets a newer one before it serves this
}

struct Read {
  chunk @0 :UInt64;
  offset @1 :UInt32;       # multiples of 4 KiB
  length @2 :UInt32;       # at most 4 MiB
}

struct Write {
  chunk @0 :UInt64;
  offset @1 :UInt32;       # any byte
  length @2 :UInt32;       # = payload bytes, at most 4 MiB
  crcs @3 :Data;
}

struct Zero {
  # Bytes read as zero afterwards; whole blocks give their space back.
  chunk @0 :UInt64;
  offset @1 :UInt32;
  length @2 :UInt32;       # up to the end of the chunk
}

struct Clone {
  # The target's blocks read as the source's afterwards; no data moves, the OSDs share the blocks. Both chunks are of this
  # request's group. kStale also if the source was never written: it may have been removed.
  source @0 :UInt64;
  sourceOffset @1 :UInt32; # multiples of 4 KiB
  target @2 :UInt64;
  targetOffset @3 :UInt32;
  length @4 :UInt32;       # up to the end of both chunks; in one chunk the ranges do not overlap
}

struct RemoveChunks {
  chunks @0 :List(UInt64);
}

struct Extents {
  chunk @0 :UInt64;
  offset @1 :UInt32;
}

struct Stat {
  chunk @0 :UInt64;
}

struct Replicate {
  # One mutation as the primary ordered it. Write payloads are whole blocks here.
  version @0 :UInt64;      # its number in the group; the chunk's version becomes this
  committed @6 :UInt64;    # every mutation up to this number is durable on every in-sync member, the receiver among them; 0:
                           # nothing is said
  union {
    write @1 :Write;
    zero @2 :Zero;
    allocate @3 :Zero;
    clone @4 :Clone;       # of the receiver's own blocks of the source
    remove @5 :RemoveChunks;   # chunk i has number version + i
    lose @7 :Zero;         # nobody has these blocks any more: they are damaged at the receiver too
  }
}

struct Changes {
  # Chunks of the group whose last change has a number above `after`, ascending by (number, chunk).
  after @0 :UInt64;
  afterChunk @1 :UInt64;   # of that number: only chunks with greater ids; 2^64-1 for none
  limit @2 :UInt32;
}

struct ScrubRequest {
  deep @0 :Bool;           # read and compare every block; otherwise chunks and versions
}

struct Digest {
  chunk @0 :UInt64;
  offset @1 :UInt32;       # multiples of 4 KiB
  length @2 :UInt32;       # at most 4 MiB
}

struct Inventory {
  after @0 :UInt64;        # chunk id
  limit @1 :UInt32;
  shard @2 :UInt8;         # only what is stored as this shard, 0 in replicated pools
  staged @3 :Bool;         # only the staged chunks, otherwise only the others
}

struct OsdReply {
  union {
    none @0 :Void;
    read @1 :ReadReply;
    extents @2 :ExtentsReply;
    stat @3 :StatReply;
    list @4 :ListReply;
    version @5 :UInt64;    # of a write, zero, allocate or clone
    changes @7 :ChangesReply;
    digest @8 :DigestReply;
    staged @9 :StagedReply;
    damaged @10 :DamagedReply;
  }
  pgEpoch @6 :UInt64;      # ours, also with kStaleEpoch
  nearlyFull @11 :Bool;    # this store is, or (a primary says) that of another member: buffer nothing for this pool
}

struct ReadReply {
  # The payload is the range asked for, holes as zeros. A hole's checksum is that of a zero block.
  crcs @0 :Data;
  version @1 :UInt64;
  hole @2 :Bool;           # all zeros: no payload and no crcs were sent
}

struct ExtentsReply {
  struct Range { offset @0 :UInt32; length @1 :UInt32; }
  data @0 :List(Range);    # ascending, at most 1024, merged
  end @1 :UInt32;          # the answer covers the chunk from the offset asked up to here
}

struct StatReply {
  exists @0 :Bool;
  version @1 :UInt64;
  blocks @2 :UInt32;       # 4 KiB blocks stored
}

struct DamagedReply {
  # Bytes of chunks of which no member has a good copy, nor enough of the shards that they could be made from.
  chunks @0 :List(Chunk);  # ascending
  more @1 :Bool;
  struct Chunk { chunk @0 :UInt64; pool @1 :UInt32; pg @2 :UInt32; ranges @3 :List(ExtentsReply.Range); }
}

struct StagedReply {
  ops @0 :List(Op);        # by slot
  any @1 :Bool;            # something is stored in the staged chunk, whole slots or not
  struct Op {
    number @0 :UInt64;     # of the change
    fromRow @1 :UInt32;    # in blocks of a shard
    toRow @2 :UInt32;
    shards @3 :UInt32;     # bit i: it concerns shard i
    slot @4 :UInt32;       # where it lies in the staged chunk, in blocks
    zero @5 :Bool;         # the rows become holes
    source @6 :UInt64;     # the rows become those of this chunk; 0: of the slot
  }
}

struct ListReply {
  chunks @0 :List(StatEntry);
  more @1 :Bool;
  struct StatEntry { chunk @0 :UInt64; version @1 :UInt64; blocks @2 :UInt32; pool @3 :UInt32; pg @4 :UInt32; }
}

struct ChangesReply {
  struct Change { chunk @0 :UInt64; version @1 :UInt64; removed @2 :Bool; }
  committed @0 :UInt64;    # the largest that it was told (Replicate.committed)
  last @1 :UInt64;         # the largest number of any mutation here
  trimmed @2 :UInt64;      # removals up to this number may be missing from `changes`
  changes @3 :List(Change);
  more @4 :Bool;
}

struct DigestReply {
  exists @0 :Bool;
  version @1 :UInt64;
  hashes @2 :Data;         # 16 bytes for each block: the start of its SHA-256; zeros for a hole, ones for a damaged block
  end @3 :UInt32;          # behind its last stored block
}
