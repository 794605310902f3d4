@0xb3a1c0de00000001;
# Structures that several messages share. Fields are appended, never renumbered or reused.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("cairn::schema");

struct Uuid {
  hi @0 :UInt64;
  lo @1 :UInt64;
}

struct Attr {
  # What stat(2) shows, and what a client needs to reach the data.
  ino @0 :UInt64;
  generation @1 :UInt32;      # differs for every inode that ever had this number; numbers are not reused
  mode @2 :UInt32;            # type and permission bits, as st_mode
  nlink @3 :UInt32;
  uid @4 :UInt32;
  gid @5 :UInt32;
  rdev @6 :UInt64;
  size @7 :UInt64;            # bytes; for directories the number of entries
  atimeNs @8 :Int64;
  mtimeNs @9 :Int64;
  ctimeNs @10 :Int64;
  btimeNs @11 :Int64;
  pool @12 :UInt32;           # where new chunks go (files), what new files inherit (directories)
  chunkCount @13 :UInt32;     # chunks that exist
  tailUnclean @14 :Bool;      # the file shrank: bytes from `size` to the end of that chunk may still hold old data.
                              # Whoever extends the file zeroes them first, then sends tailCleaned.
  parent @15 :UInt64;         # directories only: the directory that holds it
  changeVersion @16 :UInt64;  # grows with every change of the inode but of its atime (i_version)
  dataVersion @17 :UInt64;    # grows with every change of its data that the MDS was told of
  lease @18 :Lease;           # what the receiver holds on this inode from now on
  bare @19 :Bool;             # it has no extended attributes, and no access control list
}

enum Lease {
  none @0;
  read @1;
  write @2;
}

struct ChunkRef {
  index @0 :UInt32;           # position in the file, in chunks
  chunk @1 :UInt64;
  pool @2 :UInt32;
}

enum DeviceClass {
  ssd @0;
  hdd @1;
}

enum FailureDomain {
  osd @0;
  host @1;
  rack @2;
}

struct OsdInfo {
  id @0 :UInt32;
  uuid @1 :Uuid;
  addr @2 :Text;              # HOST:PORT where it serves
  host @3 :Text;              # failure domain names
  rack @4 :Text;
  deviceClass @5 :DeviceClass;
  weight @6 :UInt32;          # relative, in 1/65536; 65536 = 1 TiB
  up @7 :Bool;
  in @8 :Bool;
  bytesUsed @9 :UInt64;
  bytesTotal @10 :UInt64;
  pid @11 :UInt32;
  incarnation @12 :UInt64;    # a number of this run of the daemon
  autoOut @13 :Bool;          # out because it was down for too long: in again as soon as it is up
  fixedWeight @14 :Bool;      # an administrator set the weight; otherwise it follows the size
}

struct PgInfo {
  epoch @0 :UInt64;           # of the last change of these lists; every data request carries it
  osds @1 :List(UInt32);      # ordered: the first is the primary. All of them hold every acknowledged write.
  joining @2 :List(UInt32);   # OSDs that are up and belong here, but lack something: the primary sends them every new
                              # mutation too, makes them equal, and reports them (GroupReport); then they move to `osds`
  shards @3 :List(UInt8);     # of an erasure-coded pool: which shard each of `osds`, then each of `joining` holds. Two may hold
                              # one shard, while it moves.
  complete @4 :List(UInt32);  # of an erasure-coded pool: who is not in `osds` now, joining or not, and may come back as it
                              # is (mds/ops/groups.h), unless the primary reports it as failed
}

struct PoolInfo {
  id @0 :UInt32;
  name @1 :Text;
  replicas @2 :UInt16;        # 0 for an erasure-coded pool
  ecData @3 :UInt16;
  ecParity @4 :UInt16;
  deviceClass @5 :DeviceClass;
  failureDomain @6 :FailureDomain;
  pgs @7 :List(PgInfo);       # by PgIndex
  stripeUnit @8 :UInt32;
  anyClass @9 :Bool;          # do not restrict to deviceClass
  minSize @10 :UInt16;        # with fewer in sync a group takes no mutations, and acknowledges none that it has begun
}

struct ClusterMap {
  epoch @0 :UInt64;
  cluster @1 :Uuid;
  osds @2 :List(OsdInfo);
  pools @3 :List(PoolInfo);
  fence @4 :Fence;
  rebalancePaused @5 :Bool;   # data moves only where copies or shards are missing
}

struct Fence {
  # Which client sessions OSDs refuse: ids below `below` that are not in `alive`. Ids are never reused.
  below @0 :UInt64;
  alive @1 :List(UInt64);     # ascending
}
