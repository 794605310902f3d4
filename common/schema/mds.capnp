@0xb3a1c0de00000004;
# What an MDS is asked by clients, OSDs and tools, and the commands of its log.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("cairn::schema");
using Types = import "types.capnp";

struct MdsRequest {
  session @0 :UInt64;       # 0 for OSDs and tools
  seq @1 :UInt64;           # mutations: number of this mutation within its session, from 1; a repeated one is answered
                            # with the first answer and not done again. 0: not protected (queries; tools).
  ackedBelow @2 :UInt64;    # every seq below this was answered and will not be repeated
  union {
    mutate @3 :Mutation;
    lookup @4 :Lookup;
    getattr @5 :UInt64;             # ino
    readdir @6 :Readdir;
    readlink @7 :UInt64;            # ino
    getxattr @8 :XattrName;
    listxattr @9 :UInt64;           # ino
    open @10 :Open;
    release @11 :List(UInt64);      # inodes this session no longer has open
    chunks @12 :Chunks;
    statfs @13 :Void;
    map @14 :UInt64;                # the epoch the sender has; answered with a newer map or none
    keepalive @15 :Keepalive;
    heartbeat @16 :Heartbeat;
    status @17 :Void;
    resolve @18 :Text;              # absolute path within the filesystem -> entry; follows no symlink
    sessionClose @19 :Void;
    reclaim @20 :Reclaim;           # the first request over every connection of a session
    lease @21 :LeaseRequest;        # -> entry, its attr.lease at least what was asked for
    leaseReturn @22 :List(LeaseReturn);
    lock @23 :LockRequest;          # -> lock
    lockTest @24 :FileLock;         # -> lockHeld: one that is in the way
    lockCancel @25 :UInt64;         # ends the wait with this id; one that was granted stays granted
    lockProbed @26 :LockProbe;      # the answer to MdsPush.lockProbe
    chunkList @27 :ChunkListPlace;  # from administrators: what follows there -> chunkList
    removeLeaked @28 :List(StoredChunk);  # from administrators: those that nothing names are removed -> leaked
  }
}

struct Reclaim {
  # What the session holds. A long list comes in several requests, the last with `last`.
  open @0 :List(UInt64);    # inodes
  read @1 :List(UInt64);    # inodes with a read lease
  write @2 :List(UInt64);   # inodes with a write lease
  last @3 :Bool;            # what no request since the connection listed is given back; `open` only adds
  leases @4 :Bool;          # as in SessionOpen, for a server that was started since
  locks @5 :List(FileLock); # with the `last` part they replace whatever is known; waits end
}

# Leases: see LEASES.md.

struct LeaseRequest {
  ino @0 :UInt64;
  write @1 :Bool;
}

struct LeaseReturn {
  ino @0 :UInt64;
  serial @1 :UInt64;        # the largest that the session has seen for this inode, in a reply or a recall
  keepRead @2 :Bool;        # a write lease becomes a read lease
}

# Locks: see LOCKS.md.

enum LockSpace {
  flock @0;
  range @1;
}

enum LockType {
  none @0;
  read @1;
  write @2;
}

struct FileLock {
  ino @0 :UInt64;
  owner @1 :UInt64;         # the kernel's number, within the session
  space @2 :LockSpace;
  type @3 :LockType;        # lock: none unlocks
  start @4 :UInt64;
  end @5 :UInt64;           # the last byte, at most 2^63-1; flock: the whole file
  pid @6 :UInt32;
}

struct LockRequest {
  lock @0 :FileLock;
  wait @1 :Bool;
  id @2 :UInt64;            # of the wait, unique within the session
  gone @3 :Bool;            # an unlock: so is the owner. What it asked for before and is not answered is not done (conflict).
}

struct LockProbe {
  # Does what the receiver holds on this inode stand? Asked before others are refused for it.
  ino @0 :UInt64;
  serial @1 :UInt64;        # of the question; it comes again over a new connection
}

struct Lookup {
  parent @0 :UInt64;
  name @1 :Data;
}

struct Readdir {
  ino @0 :UInt64;
  cookie @1 :UInt64;        # 0 = from the start; otherwise the cookie of the last entry that was taken
  limit @2 :UInt32;         # entries; the answer may hold fewer, and holds none only at the end
  plus @3 :Bool;            # with attributes
}

struct XattrName {
  ino @0 :UInt64;
  name @1 :Data;
}

struct Open {
  ino @0 :UInt64;
  write @1 :Bool;           # it will be written: a write lease comes along if nobody is in the way
}

struct Chunks {
  ino @0 :UInt64;
  first @1 :UInt32;         # chunk index
  count @2 :UInt32;         # at most 1024
  # allocChunks: a chunk to whose placement group the one at first + n is to go (0: wherever its id says), so that the OSDs
  # can share blocks of the two. At most 64. A chunk that is there stays where it is, unless it begins at or behind the end
  # of the file, where nobody sees what it holds: then it is replaced.
  near @3 :List(UInt64);
}

struct ChunkListPlace {
  # A place in the list of all chunks that the MDS knows: those of the chunk maps by inode and index, open orphans' and
  # condemned ones included, and behind them the garbage queue. A chunk moves only towards the end of it, so that a walk
  # from the beginning (all fields 0) meets every chunk that is known from its first answer to its last.
  ino @0 :UInt64;           # behind this chunk
  index @1 :UInt32;
  garbage @2 :Bool;         # in the queue, behind `position`
  position @3 :UInt64;
}

struct Keepalive {
  mapEpoch @0 :UInt64;
  leases @1 :UInt32;
}

struct Heartbeat {
  osd @0 :UInt32;
  incarnation @1 :UInt64;
  mapEpoch @2 :UInt64;
  bytesUsed @3 :UInt64;
  bytesTotal @4 :UInt64;
  recovery @5 :Recovery;    # of the groups whose primary it is
  scrub @6 :Scrub;          # likewise
  nearlyFull @7 :Bool;      # the store has little room left (OsdReply.nearlyFull)
}

struct Scrub {
  groupsLeft @0 :UInt64;    # that are due, or being looked at
  errorsFound @1 :UInt64;   # since the daemon was started
  errorsRepaired @2 :UInt64;
  unrepairable @3 :UInt64;  # chunks with blocks of which no member has a good copy
  oldestNs @4 :Int64;       # when the group that was scrubbed longest ago was; 0: it leads none
}

struct Recovery {
  chunksLeft @0 :UInt64;    # of all members that are joining together: chunks still to be made equal
  bytesLeft @1 :UInt64;     # an estimate: what those chunks hold
  bytesDone @2 :UInt64;     # sent to members since the daemon was started
}

# ---- mutations: these become commands ----

struct Mutation {
  union {
    make @0 :Make;
    link @1 :Link;
    remove @2 :Remove;
    rename @3 :Rename;
    setattr @4 :Setattr;
    setxattr @5 :Setxattr;
    removexattr @6 :XattrName;
    allocChunks @7 :Chunks;         # makes the missing ones of the range -> chunks
    commitWrite @8 :CommitWrite;
    tailCleaned @9 :TailCleaned;
    setLayout @10 :SetLayout;
    sessionOpen @11 :SessionOpen;
    sessionEnd @12 :SessionEnd;     # from the leader
    releaseOrphan @13 :ReleaseOrphan;  # from the leader
    purge @14 :Purge;               # from the leader
    garbageDone @15 :List(UInt64);  # from the leader
    osdRegister @16 :OsdRegister;
    osdState @17 :List(OsdState);   # from the leader
    poolCreate @18 :PoolCreate;
    bootstrap @19 :Bootstrap;       # the first command of a cluster
    removeChunks @20 :Chunks;       # whole chunks of a punched hole go to the garbage
    accessed @21 :Accessed;
    groupReport @22 :List(GroupChange); # from OSDs; repeated until the group's epoch has changed
    osdsLost @23 :List(UInt32);     # from the leader: down for too long; out, where still down
    osdSet @24 :OsdSet;
    osdRemove @25 :OsdRemove;
    poolSet @26 :PoolSet;
    poolRemove @27 :Text;           # by name; only if no file or directory uses it
    rebalancePause @28 :Bool;       # or go on: ClusterMap.rebalancePaused
    chunksLeaked @29 :ChunksLeaked; # from the leader
  }
}

struct Make {
  # mknod, mkdir, symlink and create in one.
  parent @0 :UInt64;
  name @1 :Data;
  mode @2 :UInt32;          # with the type
  uid @3 :UInt32;
  gid @4 :UInt32;
  rdev @5 :UInt64;
  target @6 :Data;          # symlinks
  open @7 :Bool;            # regular files: the session has it open afterwards, and chunk 0 exists
  unnamed @9 :Bool;         # O_TMPFILE: open, and in no directory until it is linked; `name` is empty
  umask @8 :UInt32;         # taken from the mode, unless the directory has a default access control list
}

struct Link {
  ino @0 :UInt64;
  parent @1 :UInt64;
  name @2 :Data;
}

struct Remove {
  parent @0 :UInt64;
  name @1 :Data;
  directory @2 :Bool;       # rmdir, not unlink
}

struct Rename {
  parent @0 :UInt64;
  name @1 :Data;
  newParent @2 :UInt64;
  newName @3 :Data;
  flags @4 :UInt32;         # RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4 (renameat2(2))
}

struct Setattr {
  ino @0 :UInt64;
  # Which of the fields count.
  setMode @1 :Bool;
  setUid @2 :Bool;
  setGid @3 :Bool;
  setSize @4 :Bool;
  setAtime @5 :Bool;
  setMtime @6 :Bool;
  atimeNow @7 :Bool;        # with setAtime: the command's time
  mtimeNow @8 :Bool;
  mode @9 :UInt32;          # permission bits
  uid @10 :UInt32;
  gid @11 :UInt32;
  size @12 :UInt64;
  atimeNs @13 :Int64;
  mtimeNs @14 :Int64;
  clearSuid @15 :Bool;      # drop setuid, and setgid if group-executable: data changed hands (write, truncate, chown)
}

struct Setxattr {
  ino @0 :UInt64;
  name @1 :Data;
  value @2 :Data;
  flags @3 :UInt32;         # XATTR_CREATE 1, XATTR_REPLACE 2
  dropSgid @4 :Bool;        # an access control list, by somebody outside the file's group: setgid goes
}

struct CommitWrite {
  # Data up to `size` is durable on the OSDs.
  ino @0 :UInt64;
  size @1 :UInt64;          # the file grows to this if it is shorter; never shrinks
  mtimeNs @2 :Int64;
  setMtime @3 :Bool;
  tailCleaned @4 :Bool;     # the client zeroed the tail on the way
  clearSuid @5 :Bool;
}

struct TailCleaned {
  ino @0 :UInt64;
  size @1 :UInt64;          # only if the file still has this size
}

struct Accessed {
  # Inodes that were read, each named once. Their times of last access are set where that is due (relatime, or `always`);
  # nothing else of them changes. What is gone is left out. LEASES.md says who else is told.
  struct Access {
    ino @0 :UInt64;
    timeNs @1 :Int64;
  }
  accesses @0 :List(Access);
  always @1 :Bool;          # strictatime: every later time counts
}

struct SetLayout {
  ino @0 :UInt64;
  pool @1 :Text;
}

struct SessionOpen {
  addr @0 :Text;
  mount @1 :Text;
  pid @2 :UInt32;
  host @3 :Text;
  leases @4 :Bool;          # grants are welcome, and recalls will be answered
}

struct SessionEnd {
  session @0 :UInt64;
  expired @1 :Bool;
}

struct ReleaseOrphan {
  ino @0 :UInt64;
  session @1 :UInt64;
}

struct Purge {
  # Moves up to `limit` chunks of an orphan that nobody holds to the garbage queue, and drops the inode with the last.
  ino @0 :UInt64;
  limit @1 :UInt32;
}

struct OsdRegister {
  uuid @0 :Types.Uuid;      # of the store; known already -> keeps its id
  addr @1 :Text;
  host @2 :Text;
  rack @3 :Text;
  deviceClass @4 :Types.DeviceClass;
  bytesTotal @5 :UInt64;
  bytesUsed @6 :UInt64;
  pid @7 :UInt32;
  incarnation @8 :UInt64;
}

struct OsdState {
  id @0 :UInt32;
  up @1 :Bool;
  in @2 :Bool;              # no longer read: osdSet
}

struct OsdSet {
  # What an administrator says of an OSD.
  id @0 :UInt32;
  setIn @1 :Bool;           # which of the fields count
  setWeight @2 :Bool;
  in @3 :Bool;
  weight @4 :UInt32;        # as OsdInfo.weight; 0: what its size says
}

struct OsdRemove {
  id @0 :UInt32;
  force @1 :Bool;           # also from groups that list it, if what the others hold is all of the data
}

struct GroupChange {
  # What the primary of a group says of one other OSD in it. Counts only while the group has this epoch.
  enum Kind {
    synced @0;              # it was joining and is equal now
    failed @1;              # it lacks a mutation: it leaves `osds` before that is acknowledged, unless too few to read would stay
  }
  pool @0 :UInt32;
  pg @1 :UInt32;
  epoch @2 :UInt64;
  member @3 :UInt32;
  kind @4 :Kind;
}

struct PoolCreate {
  name @0 :Text;
  replicas @1 :UInt16;
  ecData @2 :UInt16;
  ecParity @3 :UInt16;
  deviceClass @4 :Types.DeviceClass;
  anyClass @5 :Bool;
  failureDomain @6 :Types.FailureDomain;
  autoDomain @7 :Bool;      # host if there are enough hosts, otherwise osd
  pgCount @8 :UInt32;       # 0 = chosen
  minSize @9 :UInt16;       # 0 = chosen: Pool::usualMinSize
  stripeUnit @10 :UInt32;   # of an erasure-coded pool, bytes: a power of two from 4 KiB to 1 MiB; 0 = 64 KiB
}

struct PoolSet {
  name @0 :Text;
  setReplicas @1 :Bool;     # which of the fields count
  setMinSize @2 :Bool;
  setClass @3 :Bool;
  replicas @4 :UInt16;      # minSize becomes what is usual for that many, unless it is set too
  minSize @5 :UInt16;       # 0: what is usual
  deviceClass @6 :Types.DeviceClass;
  anyClass @7 :Bool;
}

struct StoredChunk {
  # A chunk as OSDs store it.
  chunk @0 :UInt64;
  pool @1 :UInt32;
}

struct ChunksLeaked {
  # No chunk map and no place in the garbage queue has named these since ids were given out up to `below`.
  chunks @0 :List(StoredChunk);   # ascending
  below @1 :UInt64;
}

struct Bootstrap {
  cluster @0 :Types.Uuid;
  replicas @1 :UInt16;      # of the first pool, "default", made when enough OSDs are in
}

# ---- answers ----

struct MdsReply {
  leaseSerial @12 :UInt64;    # of every lease that this reply grants (Attr.lease, dirLease); reclaim: of all that
                              # it listed, and whatever was seen before counts no longer
  dirLease @13 :Bool;         # lookup, readdir: the receiver holds a read lease on the directory
  barrier @14 :UInt64;        # data requests must carry at least this map epoch (OsdRequest.mapEpoch)
  times @17 :Times;           # readlink, readdir: of what was read, so that the receiver knows whether its access counts
  union {
    none @0 :Void;            # lookup: there is no such name (sessions without leases are told kNotFound)
    entry @1 :Entry;          # lookup, make, link, open, resolve, lease
    attr @2 :Types.Attr;      # getattr, setattr, commitWrite
    readdir @3 :ReaddirReply;
    data @4 :Data;            # readlink, getxattr, listxattr (names, each ended by a zero byte)
    chunks @5 :ChunksReply;   # chunks, allocChunks
    statfs @6 :StatfsReply;
    map @7 :MapReply;
    keepalive @8 :MapReply;
    heartbeat @9 :MapReply;
    status @10 :StatusReply;
    id @11 :UInt64;           # sessionOpen: the session; osdRegister: the OSD; poolCreate: the pool
    lock @15 :LockReply;
    lockHeld @16 :FileLock;   # type none: nothing is in the way; pid 0: another session's. The owner is not told.
    chunkList @19 :ChunkListReply;
    leaked @20 :List(UInt64);    # removeLeaked: those that are in the garbage queue now
    accessed @18 :List(UInt64);  # accessed: the inodes whose time of last access is now another than was said
  }
}

struct Times {
  atimeNs @0 :Int64;
  mtimeNs @1 :Int64;
  ctimeNs @2 :Int64;
}

struct LockReply {
  enum Outcome {
    granted @0;
    conflict @1;
    deadlock @2;
    waiting @3;               # lockGranted follows
  }
  outcome @0 :Outcome;
  serial @1 :UInt64;          # of the session's changes, in the order in which they were made
}

struct Entry {
  attr @0 :Types.Attr;
  chunks @1 :List(Types.ChunkRef);  # open and make with open: those with an index below 16
}

struct ReaddirReply {
  struct DirEntry {
    name @0 :Data;
    ino @1 :UInt64;
    type @2 :UInt8;           # DT_* of readdir(3)
    cookie @3 :UInt64;
    attr @4 :Types.Attr;      # plus only; ino 0: not known here, another session is writing the file: look it up
  }
  entries @0 :List(DirEntry);
  end @1 :Bool;
}

struct ChunksReply {
  chunks @0 :List(Types.ChunkRef);  # those that exist in the range
}

struct ChunkListReply {
  struct Known { chunk @0 :UInt64; ino @1 :UInt64; index @2 :UInt32; pool @3 :UInt32; }  # ino 0: in the garbage queue
  chunks @0 :List(Known);
  next @1 :ChunkListPlace;
  end @2 :Bool;
  below @3 :UInt64;           # ids that were given out until now are below this
}

struct StatfsReply {
  bytesTotal @0 :UInt64;      # what users can store: raw capacity over copies
  bytesFree @1 :UInt64;
  inodes @2 :UInt64;
  inodesFree @3 :UInt64;
}

struct MapReply {
  epoch @0 :UInt64;
  leaseMs @1 :UInt32;         # the receiver may act on its map for so long after it SENT the request
  map @2 :Types.ClusterMap;   # null if the sender's epoch was this one
  adopted @3 :UInt64;         # heartbeat: every OSD that may serve has this epoch or a newer one. A new primary serves
                              # only once this has reached its group's epoch: then no older primary does any more.
  nearlyFull @4 :List(UInt32);  # pools that lie on an OSD which has little room left: buffer nothing for them
}

struct MdsPush {
  union {
    mapChanged @0 :UInt64;    # epoch
    recall @1 :Recall;
    lockGranted @2 :LockGrant;
    accessed @3 :List(UInt64);  # the receiver holds leases on these inodes, and others have read them: what it knows of
                                # their times of last access is old. Everything else stands. Not answered, not repeated.
    lockProbe @4 :LockProbe;    # answered by lockProbed, when every close that was over has been told to the MDS
  }
}

struct LockGrant {
  id @0 :UInt64;              # of the wait
  serial @1 :UInt64;          # as in LockReply
}

struct Recall {
  ino @0 :UInt64;
  serial @1 :UInt64;          # of the last lease on it that this session was granted
  toRead @2 :Bool;            # a read lease may be kept; otherwise all is to be returned
}

struct StatusReply {
  struct Mds { id @0 :UInt32; addr @1 :Text; role @2 :Text; pid @3 :UInt32; }
  struct PoolUse { id @0 :UInt32; chunks @1 :UInt64; bytes @2 :UInt64; }
  struct Client { id @0 :UInt64; addr @1 :Text; mount @2 :Text; pid @3 :UInt32; leases @4 :UInt32; host @5 :Text; }
  map @0 :Types.ClusterMap;
  mds @1 :List(Mds);
  pools @2 :List(PoolUse);
  clients @3 :List(Client);
  problems @4 :List(Text);
  health @5 :Text;            # ok | degraded | unavailable
  inodes @6 :UInt64;
  garbageChunks @7 :UInt64;   # deleted, space not given back yet
  host @8 :Text;              # of this MDS
  recovery @9 :Recovery;
  scrub @10 :Scrub;           # of all OSDs: sums, and the oldest of the oldest
  down @11 :List(DownOsd);
  struct DownOsd { osd @0 :UInt32; forMs @1 :UInt64; }  # as far as this MDS knows since it was started
  struct Recovery { chunksLeft @0 :UInt64; bytesLeft @1 :UInt64; bytesPerSec @2 :UInt64; }
}

# ---- the command log ----

struct Command {
  # One record of the log: everything apply() needs, so that it is a function of the state and this.
  timeNs @0 :Int64;           # chosen by the leader, never runs backwards within a log
  session @1 :UInt64;
  seq @2 :UInt64;
  ackedBelow @3 :UInt64;
  random @4 :UInt64;
  mutation @5 :Mutation;
  openBy @6 :List(UInt64);    # remove and rename: sessions that have the victim open, as the leader knows
}
