// Kv on LevelDB. The choices:
//   - bloom filter of 10 bits a key: a get of what is not there (create, lookup of a new name)
//   costs
//     no read in 99 of 100 cases;
//   - 64 MiB write buffer and 32 MiB files: ten million inodes load without stalls above 50 ms;
//   - Snappy: inode and dentry records are half zeros and repeated ids. It costs CPU in compaction
//     and on a cold read only, a few us beside the 75 us of the device; LevelDB stores what does
//     not shrink by an eighth (checksums of extents) as it is;
//   - paranoid_checks and verify_checksums: what does not match its checksum is kCorrupt, never an
//     answer.
#include <cerrno>
#include <cstring>

#include "common/kv/kv.h"
#include "common/kv/log_order_env.h"
#include "leveldb/cache.h"
#include "leveldb/db.h"
#include "leveldb/filter_policy.h"
#include "leveldb/write_batch.h"

namespace cairn {

namespace {

leveldb::Slice slice(std::string_view s) {
  return {s.data(), s.size()};
}
std::string_view view(const leveldb::Slice& s) {
  return {s.data(), s.size()};
}

// LevelDB keeps no errno, only strerror's text at the end of its message.
Errc codeOf(const leveldb::Status& status) {
  if (status.IsNotFound()) return Errc::kNotFound;
  if (status.IsCorruption()) return Errc::kCorrupt;
  if (status.IsInvalidArgument()) return Errc::kInvalid;
  if (status.IsNotSupportedError()) return Errc::kNotSupported;
  const std::string text = status.ToString();
  for (auto [err, code] : {std::pair{ENOSPC, Errc::kNoSpace},
                           {EDQUOT, Errc::kNoSpace},
                           {EROFS, Errc::kReadOnly},
                           {EACCES, Errc::kAccess},
                           {EPERM, Errc::kPermission}})
    if (text.ends_with(std::strerror(err))) return code;
  return Errc::kIo;
}

Result<void> resultOf(const leveldb::Status& status, const std::string& path) {
  if (status.ok()) return {};
  return fail(codeOf(status), "database " + path + ": " + status.ToString());
}

Error openError(const leveldb::Status& status, const std::string& path, const LogOrderEnv& env,
                const KvOptions& options) {
  const std::string name = "database " + path;
  if (env.lockRefused())
    return Error(Errc::kBusy, name + " is in use by another process: stop that one first");
  switch (Errc code = codeOf(status)) {
    case Errc::kInvalid:
      if (options.errorIfExists && status.ToString().find("exists (") != std::string::npos)
        return Error(Errc::kExists,
                     name + " exists already: remove it, or choose another directory");
      if (!options.createIfMissing && status.ToString().find("does not exist") != std::string::npos)
        return Error(Errc::kNotFound, name + " does not exist: check the path");
      return Error(code, name + " cannot be opened: " + status.ToString());
    case Errc::kNotFound:
      return Error(code, name + " cannot be opened: " + status.ToString() +
                             "; create the directory that holds it");
    case Errc::kCorrupt:
      return Error(code, name + " is damaged: " + status.ToString() +
                             "; restore it from a copy, or move it away and let this daemon be "
                             "rebuilt from the others");
    case Errc::kNoSpace:
      return Error(code, name + ": " + status.ToString() + "; free space on its file system");
    case Errc::kReadOnly:
    case Errc::kAccess:
    case Errc::kPermission:
      return Error(code, name + ": " + status.ToString() +
                             "; the daemon's user must be able to write there");
    default:
      return Error(code, name + " cannot be opened: " + status.ToString() + "; check the device");
  }
}

class LevelKvIterator final : public KvIterator {
 public:
  LevelKvIterator(std::unique_ptr<leveldb::Iterator> it, std::string path)
      : it_(std::move(it)), path_(std::move(path)) {}
  void seek(std::string_view key) override { it_->Seek(slice(key)); }
  void seekLast() override { it_->SeekToLast(); }
  void next() override { it_->Next(); }
  void prev() override { it_->Prev(); }
  [[nodiscard]] bool valid() const override { return it_->Valid(); }
  [[nodiscard]] std::string_view key() const override { return view(it_->key()); }
  [[nodiscard]] std::string_view value() const override { return view(it_->value()); }
  [[nodiscard]] Result<void> status() const override { return resultOf(it_->status(), path_); }

 private:
  std::unique_ptr<leveldb::Iterator> it_;
  std::string path_;
};

}  // namespace

struct KvBatch::Impl {
  leveldb::WriteBatch batch;
};

KvBatch::KvBatch() : impl_(std::make_unique<Impl>()) {}
KvBatch::~KvBatch() = default;
KvBatch::KvBatch(KvBatch&&) noexcept = default;
KvBatch& KvBatch::operator=(KvBatch&&) noexcept = default;
void KvBatch::put(std::string_view key, std::string_view value) {
  impl_->batch.Put(slice(key), slice(value));
}
void KvBatch::del(std::string_view key) {
  impl_->batch.Delete(slice(key));
}
void KvBatch::clear() {
  impl_->batch.Clear();
}
size_t KvBatch::sizeBytes() const {
  return impl_->batch.ApproximateSize();
}

// Iterators and syncs in flight end before it dies.
class LevelKv final : public Kv {
 public:
  static Result<std::unique_ptr<Kv>> open(Reactor& reactor, leveldb::Env* base,
                                          const std::string& path, const KvOptions& options) {
    std::unique_ptr<LevelKv> kv(new LevelKv(reactor, base, path, options.cacheBytes));
    leveldb::Options o;
    o.env = &kv->env_;
    o.create_if_missing = options.createIfMissing;
    o.error_if_exists = options.errorIfExists;
    o.paranoid_checks = true;
    o.compression = leveldb::kSnappyCompression;
    o.filter_policy = kv->filter_.get();
    o.block_cache = kv->cache_.get();
    o.write_buffer_size = options.writeBufferBytes;
    o.max_file_size = 32u << 20;
    leveldb::DB* db = nullptr;
    leveldb::Status status = leveldb::DB::Open(o, path, &db);
    if (!status.ok()) return fail(openError(status, path, kv->env_, options));
    kv->db_.reset(db);
    return std::unique_ptr<Kv>(std::move(kv));
  }

  Result<std::string> get(std::string_view key) override {
    std::string value;
    leveldb::Status status = db_->Get(readOptions(), slice(key), &value);
    if (status.ok()) return value;
    if (status.IsNotFound()) return fail(Errc::kNotFound);  // frequent: no message to build
    return fail(codeOf(status), "database " + path_ + ": " + status.ToString());
  }

  Result<void> write(KvBatch& batch, bool durable) override {
    leveldb::WriteOptions o;
    o.sync = durable;
    return resultOf(db_->Write(o, &batch.impl_->batch), path_);
  }

  std::unique_ptr<KvIterator> iterate() override {
    auto o = readOptions();
    o.fill_cache = false;  // a scan must not push out what point reads use
    return std::make_unique<LevelKvIterator>(
        std::unique_ptr<leveldb::Iterator>(db_->NewIterator(o)), path_);
  }

  // Not LevelDB's own synced write: every writer, and so the reactor's thread, would queue behind
  // its fsync. Every record is with the kernel when write() returns, and older logs are durable
  // (log_order_env.h), so a sync of the current log's file covers all that was written.
  Task<Result<void>> sync() override {
    std::shared_ptr<LogSink> log = env_.currentLog();
    leveldb::Status status;
    co_await offloaded(reactor_, [this, &log, &status] { status = env_.syncLog(*log); });
    co_return resultOf(status, path_);
  }

 private:
  LevelKv(Reactor& reactor, leveldb::Env* base, const std::string& path, size_t cacheBytes)
      : reactor_(reactor),
        path_(path),
        env_(base),
        filter_(leveldb::NewBloomFilterPolicy(10)),
        cache_(leveldb::NewLRUCache(cacheBytes)) {}
  static leveldb::ReadOptions readOptions() {
    leveldb::ReadOptions o;
    o.verify_checksums = true;
    return o;
  }

  Reactor& reactor_;
  const std::string path_;
  LogOrderEnv env_;
  std::unique_ptr<const leveldb::FilterPolicy> filter_;
  std::unique_ptr<leveldb::Cache> cache_;
  std::unique_ptr<leveldb::DB> db_;  // dies first: it uses the three above
};

namespace {

class LevelKvFactory final : public KvFactory {
 public:
  explicit LevelKvFactory(leveldb::Env* env) : env_(env) {}
  Result<std::unique_ptr<Kv>> open(Reactor& reactor, const std::string& path,
                                   KvOptions options) override {
    return LevelKv::open(reactor, env_, path, options);
  }
  Result<void> destroy(const std::string& path) override {
    LogOrderEnv env(env_);
    leveldb::Options o;
    o.env = &env;
    leveldb::Status status = leveldb::DestroyDB(path, o);
    if (!status.ok()) return fail(openError(status, path, env, {}));
    return {};
  }

 private:
  leveldb::Env* env_;
};

}  // namespace

std::unique_ptr<KvFactory> makeLevelKvFactory(leveldb::Env* env) {
  return std::make_unique<LevelKvFactory>(env);
}

}  // namespace cairn
