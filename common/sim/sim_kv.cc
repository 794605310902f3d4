#include "common/sim/sim_kv.h"

#include "common/sim/sim_kv_env.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

namespace {

// A memtable takes more memory than its entries take in a batch: per entry up to about 24 times for
// the smallest, plus a block of its arena or two.
constexpr size_t kMemtableFactor = 24;
constexpr size_t kMemtableSlack = 16 * 1024;

class SimKvIterator final : public KvIterator {
 public:
  SimKvIterator(SimNode& node, std::unique_ptr<KvIterator> inner)
      : node_(node), inner_(std::move(inner)) {}
  void seek(std::string_view key) override { inner_->seek(key); }
  void seekLast() override { inner_->seekLast(); }
  void next() override { inner_->next(); }
  void prev() override { inner_->prev(); }
  [[nodiscard]] bool valid() const override { return node_.alive() && inner_->valid(); }
  [[nodiscard]] std::string_view key() const override { return inner_->key(); }
  [[nodiscard]] std::string_view value() const override { return inner_->value(); }
  [[nodiscard]] Result<void> status() const override {
    if (!node_.alive()) return fail(node_.killedError());
    return inner_->status();
  }

 private:
  SimNode& node_;
  std::unique_ptr<KvIterator> inner_;
};

class SimKv final : public Kv {
 public:
  SimKv(SimNode& node, std::unique_ptr<Kv> inner, size_t writeBufferBytes)
      : node_(node), inner_(std::move(inner)), writeBufferBytes_(writeBufferBytes) {
    later();
  }
  ~SimKv() override { node_.kvEnv().runBackground(); }  // LevelDB would wait for it

  Result<std::string> get(std::string_view key) override {
    if (!node_.alive()) return fail(node_.killedError());
    auto value = inner_->get(key);
    later();  // reads may ask for a compaction
    return value;
  }

  Result<void> write(KvBatch& batch, bool durable) override {
    if (!node_.alive()) return fail(node_.killedError());
    makeRoom(batch.sizeBytes());
    const bool waiting = node_.kvEnv().hasBackground();
    auto written = inner_->write(batch, durable);
    // The write that changed the memtable is the first in the new one.
    if (!waiting) writtenBytes_ = batch.sizeBytes();
    if (!node_.alive()) return fail(node_.killedError());
    later();
    return written;
  }

  std::unique_ptr<KvIterator> iterate() override {
    return std::make_unique<SimKvIterator>(node_, inner_->iterate());
  }

  Task<Result<void>> sync() override {
    if (!node_.alive()) {
      SimOp op(node_);
      co_return co_await op;
    }
    auto synced = co_await inner_->sync();
    if (!node_.alive()) co_return fail(node_.killedError());
    co_return synced;
  }

 private:
  // A write waits for background work when the memtable is full and the one before it is not yet
  // written: it must be, while there is still room.
  void makeRoom(size_t batchBytes) {
    SimKvEnv& env = node_.kvEnv();
    if (!env.hasBackground()) {
      writtenBytes_ = 0;
      return;
    }
    writtenBytes_ += batchBytes;
    if (writtenBytes_ * kMemtableFactor + kMemtableSlack < writeBufferBytes_) return;
    env.runBackground();
    writtenBytes_ = 0;
  }

  void later() {
    const Duration delay = node_.options().kvBackgroundDelay;
    if (delay > Duration::zero())
      node_.kvEnv().planBackground(delay);
    else
      node_.kvEnv().runBackground();
  }

  SimNode& node_;
  std::unique_ptr<Kv> inner_;
  const size_t writeBufferBytes_;
  size_t writtenBytes_ = 0;  // since background work is waiting
};

}  // namespace

SimKvFactory::SimKvFactory(SimNode& node)
    : node_(node), level_(makeLevelKvFactory(&node.kvEnv())) {}

Result<std::unique_ptr<Kv>> SimKvFactory::open(Reactor& reactor, const std::string& path,
                                               KvOptions options) {
  if (!node_.alive()) return fail(node_.killedError());
  auto kv = level_->open(reactor, path, options);
  if (!node_.alive()) {
    node_.kvEnv().runBackground();  // closing the database would wait for it
    return fail(node_.killedError());
  }
  TRY(kv);
  return std::make_unique<SimKv>(node_, std::move(*kv), options.writeBufferBytes);
}

Result<void> SimKvFactory::destroy(const std::string& path) {
  if (!node_.alive()) return fail(node_.killedError());
  return level_->destroy(path);
}

}  // namespace cairn::sim
