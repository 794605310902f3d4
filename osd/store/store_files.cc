// Making a store and opening its files: superblock, metadata, lock.
#include "osd/store/chunk_store.h"

namespace cairn::osd {

namespace {

// Metadata is about 1/1000 of the data, twice that while LevelDB compacts; the ballast is what an
// operator can free when the host's file system is full and the store has stopped.
constexpr uint64_t kBallastShare = 256;
constexpr uint64_t kMinBallast = 4 * kMiB;
constexpr uint64_t kMaxBallast = kGiB;

KvOptions kvOptions() {
  KvOptions o;
  o.createIfMissing = false;
  return o;
}

std::string rebuild(const std::string& directory) {
  return "; remove " + directory + " and create the store again, the cluster fills it";
}

// What create() made, to be removed if it fails.
class Undo {
 public:
  Undo(Env& env, const StoreOptions& options) : env_(env), options_(options) {}

  Task<Result<void>> run() {
    auto files = std::move(files_);
    if (kv_) (void)env_.kv.destroy(metaPath(options_));
    for (auto& path : files) (void)co_await env_.disk.remove(path);
    co_return {};
  }
  void file(std::string path) { files_.insert(files_.begin(), std::move(path)); }
  void kv() { kv_ = true; }

 private:
  Env& env_;
  const StoreOptions& options_;
  std::vector<std::string> files_;  // newest first
  bool kv_ = false;
};

Task<Result<void>> zeroRange(Env& env, File& file, uint64_t from, uint64_t to) {
  Buffer zeros = env.buffers.zeroed(kMiB);
  while (from < to) {
    uint64_t n = std::min<uint64_t>(kMiB, to - from);
    std::vector<Buffer> parts(1, zeros.slice(0, n));
    CO_TRY(co_await file.write(std::move(parts), from, false));
    from += n;
  }
  co_return {};
}

Result<void> planned(const StoreOptions& options, uint64_t sizeBytes, StoreFiles& files) {
  auto layout =
      planLayout(roundDown(sizeBytes, kBlockSize), options.walBytes, options.device.has_value());
  TRY(layout);
  files.superblock = *layout;
  return {};
}

// `block` and `log`. The log is a file of its own because the first write to each preallocated
// block changes the extents of `block`: a synced write to that file would wait for the host file
// system's journal. The log's file is written with zeros once and never changes extents again.
Task<Result<void>> makeFiles(Env& env, const StoreOptions& options, StoreFiles& files, Undo& undo) {
  CO_TRY(planned(options, options.sizeBytes, files));
  OpenOptions o;
  o.createBytes = files.superblock.sizeBytes;
  o.zeroBytes = files.superblock.dataOffset;
  auto file = co_await env.disk.open(blockPath(options), o);
  if (!file && file.error().code == Errc::kExists)
    co_return fail(Errc::kExists, options.directory + " holds a chunk store already");
  CO_TRY(file);
  undo.file(blockPath(options));
  o.createBytes = o.zeroBytes = files.superblock.walBytes;
  auto log = co_await env.disk.open(logPath(options), o);
  CO_TRY(log);
  undo.file(logPath(options));
  files.file = std::move(*file);
  files.log = std::move(*log);
  co_return Result<void>();
}

Task<Result<void>> prepareDevice(Env& env, const StoreOptions& options, StoreFiles& files) {
  auto record = co_await env.disk.open(blockPath(options), OpenOptions{.writable = false});
  if (record) co_return fail(Errc::kExists, options.directory + " holds a chunk store already");
  if (record.error().code != Errc::kNotFound) co_return fail(std::move(record).error());
  auto file = co_await env.disk.open(*options.device, {});
  CO_TRY(file);
  files.file = std::move(*file);
  CO_TRY(planned(options, files.file->size(), files));
  std::optional<Error> damage;
  auto old = co_await readSuperblock(env, *files.file, *options.device, &damage);
  if (old || old.error().code != Errc::kNotFound)
    co_return fail(Errc::kExists, *options.device +
                                      " holds a chunk store already; to use it for a new one, "
                                      "erase its first MiB (wipefs, dd)");
  CO_TRY(co_await zeroRange(env, *files.file, 0, files.superblock.dataOffset));
  co_return co_await files.file->sync();
}

Task<Result<void>> makeStore(Env& env, const StoreOptions& options, Uuid cluster, Undo& undo) {
  auto made = co_await env.disk.makeDirectory(options.directory);
  CO_TRY(made);
  if (*made) undo.file(options.directory);
  StoreFiles files;
  if (options.device)
    CO_TRY(co_await prepareDevice(env, options, files));
  else
    CO_TRY(co_await makeFiles(env, options, files, undo));
  Superblock& layout = files.superblock;
  layout.store = {env.random.next(), env.random.next()};
  layout.cluster = cluster;

  OpenOptions ballast;
  ballast.createBytes =
      roundUp(std::clamp(layout.sizeBytes / kBallastShare, kMinBallast, kMaxBallast), kBlockSize);
  auto reserved = co_await env.disk.open(ballastPath(options), ballast);
  CO_TRY(reserved);
  undo.file(ballastPath(options));

  KvOptions kvo;
  kvo.errorIfExists = true;
  auto kv = env.kv.open(env.reactor, metaPath(options), kvo);
  CO_TRY(kv);
  undo.kv();
  KvBatch batch;
  batch.put(keys::kIdentity, StoreIdentity{layout.store, cluster}.encode());
  CO_TRY((*kv)->write(batch, true));
  CO_TRY(co_await RingLog::format(env, files.logFile(), layout.wal(), layout.store));
  // Last, because they make it a store.
  CO_TRY(co_await writeSuperblocks(env, *files.file, layout));
  if (options.device) {
    OpenOptions o;
    o.createBytes = kBlockSize;
    auto record = co_await env.disk.open(blockPath(options), o);
    if (record) {
      undo.file(blockPath(options));
      std::vector<Buffer> parts(1, env.buffers.get(kBlockSize));
      encodeDeviceRecord(*options.device, parts[0].bytes());
      auto written = co_await (*record)->write(std::move(parts), 0, true);
      if (!written) record = fail(std::move(written).error());
    }
    if (!record) {
      (void)co_await zeroRange(env, *files.file, 0, kSuperblockCopies * kBlockSize);
      (void)co_await files.file->sync();
      co_return fail(std::move(record).error());
    }
  }
  co_return {};
}

}  // namespace

Task<Result<void>> Store::create(Env& env, StoreOptions options, Uuid cluster) {
  Undo undo(env, options);
  auto made = co_await makeStore(env, options, cluster, undo);
  if (!made) (void)co_await undo.run();
  co_return made;
}

Task<Result<StoreFiles>> openStoreFiles(Env& env, StoreOptions options, bool writable) {
  StoreFiles out;
  out.path = blockPath(options);
  OpenOptions o;
  o.writable = writable;
  auto file = co_await env.disk.open(out.path, o);
  if (!file && file.error().code == Errc::kNotFound)
    co_return fail(
        Errc::kNotFound,
        options.directory + " holds no chunk store: create one there, or check the path");
  CO_TRY(file);
  Buffer block = env.buffers.get(kBlockSize);
  if ((*file)->size() < kSuperblockCopies * kBlockSize) {
    if ((*file)->size() < kBlockSize)
      co_return fail(Errc::kCorrupt, out.path + " is too short" + rebuild(options.directory));
    CO_TRY(co_await (*file)->read(block, 0));
    auto device = decodeDeviceRecord(block.bytes());
    if (!device)
      co_return fail(Errc::kCorrupt, out.path + " neither is a store nor names a device" +
                                         rebuild(options.directory));
    out.record = std::move(*file);
    out.path = options.device.value_or(*device);
    file = co_await env.disk.open(out.path, o);
    CO_TRY(file);
  }
  out.file = std::move(*file);
  auto superblock = co_await readSuperblock(env, *out.file, out.path, &out.damagedSuperblock);
  if (!superblock && superblock.error().code == Errc::kNotFound)
    co_return fail(Errc::kCorrupt, out.path +
                                       " has no superblock: its creation was interrupted, or "
                                       "it was overwritten" +
                                       rebuild(options.directory));
  CO_TRY(superblock);
  out.superblock = *superblock;
  if (out.superblock.ownLogFile()) {
    auto log = co_await env.disk.open(logPath(options), o);
    if (!log && log.error().code == Errc::kNotFound)
      co_return fail(Errc::kCorrupt, "the log of the store is gone: " + log.error().message +
                                         rebuild(options.directory));
    CO_TRY(log);
    out.log = std::move(*log);
  }

  auto kv = env.kv.open(env.reactor, metaPath(options), kvOptions());
  if (!kv && kv.error().code == Errc::kNotFound)
    co_return fail(Errc::kCorrupt, "the metadata of the store is gone: " + kv.error().message +
                                       rebuild(options.directory));
  CO_TRY(kv);
  out.kv = std::move(*kv);
  auto identity = out.kv->get(keys::kIdentity);
  std::optional<StoreIdentity> id;
  if (identity) id = StoreIdentity::decode(*identity);
  if (!id) {
    if (!identity && identity.error().code != Errc::kNotFound) CO_TRY(identity);
    co_return fail(Errc::kCorrupt, metaPath(options) + " does not say whose metadata it is" +
                                       rebuild(options.directory));
  }
  if (id->store != out.superblock.store || id->cluster != out.superblock.cluster)
    co_return fail(Errc::kWrongCluster,
                   metaPath(options) + " belongs to store " + id->store.text() + " of cluster " +
                       id->cluster.text() + ", but " + out.path + " is store " +
                       out.superblock.store.text() + " of cluster " +
                       out.superblock.cluster.text() + ": put together what belongs together");
  auto applied = out.kv->get(keys::kApplied);
  if (applied)
    out.applied = Decoder(*applied).get<uint64_t>();
  else if (applied.error().code != Errc::kNotFound)
    CO_TRY(applied);
  auto osd = out.kv->get(keys::kOsdId);
  if (osd)
    out.osdId = OsdId(Decoder(*osd).get<uint32_t>());
  else if (osd.error().code != Errc::kNotFound)
    CO_TRY(osd);
  co_return out;
}

}  // namespace cairn::osd
