#include "common/sim/sim_disk.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/sim/sim_world.h"

namespace cairn::sim {

namespace {

class SimFile final : public File {
 public:
  SimFile(SimNode& node, std::shared_ptr<StoredFile> stored, const OpenOptions& options)
      : node_(node),
        world_(node.world()),
        store_(node.machine().disk),
        stored_(std::move(stored)),
        writable_(options.writable) {
    if (!options.exclusive) return;
    stored_->lockOwner = this;
    stored_->lockNode = &node;
  }
  ~SimFile() override {
    if (stored_->lockOwner != this) return;
    stored_->lockOwner = nullptr;
    stored_->lockNode = nullptr;
  }

  Task<Result<void>> read(Buffer into, uint64_t offset) override;
  Task<Result<void>> write(std::vector<Buffer> parts, uint64_t offset, bool durable) override;
  Task<Result<void>> sync() override;
  [[nodiscard]] uint64_t size() const override { return stored_->size(); }

 private:
  [[nodiscard]] Result<void> check(const char* what, uint64_t offset, uint64_t bytes) const;
  [[nodiscard]] bool bad(uint64_t offset, uint64_t bytes, bool write) const;
  // Whether something of this probability goes wrong with what is at `offset`.
  [[nodiscard]] bool fails(double probability, uint64_t offset) {
    const DiskFaults& f = store_.faults;
    const bool here = f.file.empty() || (f.file == stored_->path() && offset >= f.from);
    return here && world_.chance(probability);
  }
  [[nodiscard]] std::unexpected<Error> ioError(const char* what) const {
    return fail(Errc::kIo, std::string(what) + " " + stored_->path() + ": Input/output error");
  }
  void store(const std::vector<Buffer>& parts, uint64_t offset, bool durable);
  [[nodiscard]] uint64_t anyBit(uint64_t bytes) { return world_.random().below(bytes * 8); }

  SimNode& node_;
  SimWorld& world_;
  SimDiskStore& store_;
  std::shared_ptr<StoredFile> stored_;
  const bool writable_;
};

Result<void> SimFile::check(const char* what, uint64_t offset, uint64_t bytes) const {
  if (bytes != 0 && offset % kBlockSize == 0 && bytes % kBlockSize == 0 && offset <= size() &&
      bytes <= size() - offset)
    return {};
  return fail(Errc::kInvalid, std::string(what) + " of " + stored_->path() + ": " +
                                  std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                  " are not aligned or not inside its " + std::to_string(size()) +
                                  " bytes");
}

bool SimFile::bad(uint64_t offset, uint64_t bytes, bool write) const {
  return std::ranges::any_of(store_.faults.bad, [&](const DiskFaults::BadRange& r) {
    return (write ? r.writes : r.reads) && r.path == stored_->path() && r.offset < offset + bytes &&
           offset < r.offset + r.bytes;
  });
}

Task<Result<void>> SimFile::read(Buffer into, uint64_t offset) {
  CAIRN_ASSERT(reinterpret_cast<uintptr_t>(into.data()) % kBlockSize == 0, "direct I/O alignment");
  CO_TRY(check("read", offset, into.size()));
  CO_TRY(co_await node_.delay(store_.transit(store_.options.readLatency, into.size())));
  world_.trace(TraceKind::kDisk, offset, into.size());
  const DiskFaults& faults = store_.faults;
  if (bad(offset, into.size(), false) || fails(faults.readError, offset))
    co_return ioError("cannot read");
  stored_->read(offset, into.bytes());
  if (fails(faults.flipOnRead, offset)) {
    const uint64_t bit = anyBit(into.size());
    into.data()[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
  }
  co_return Result<void>{};
}

Task<Result<void>> SimFile::write(std::vector<Buffer> parts, uint64_t offset, bool durable) {
  uint64_t bytes = 0;
  for (const Buffer& p : parts) {
    CAIRN_ASSERT(
        reinterpret_cast<uintptr_t>(p.data()) % kBlockSize == 0 && p.size() % kBlockSize == 0,
        "direct I/O alignment");
    bytes += p.size();
  }
  if (!writable_) co_return fail(Errc::kReadOnly, stored_->path() + " was opened for reading");
  CO_TRY(check("write", offset, bytes));
  const DiskOptions& options = store_.options;
  const Duration latency =
      options.writeLatency + (durable ? options.syncLatency : Duration::zero());
  if (node_.alive()) store_.inFlight.push_back({&node_, stored_, offset, &parts});
  const auto* mine = &parts;
  Result<void> done = co_await node_.delay(store_.transit(latency, bytes));
  // A crash decides at once what becomes of the writes in flight, and takes them off.
  std::erase_if(store_.inFlight, [mine](const WriteInFlight& w) { return w.parts == mine; });
  CO_TRY(std::move(done));
  world_.trace(TraceKind::kDisk, offset, bytes);
  const DiskFaults& faults = store_.faults;
  if (faults.noSpace)
    co_return fail(Errc::kNoSpace, "cannot write " + stored_->path() + ": no space left on device");
  if (bad(offset, bytes, true) || fails(faults.writeError, offset)) {
    if (parts.size() > 1) store({parts[0]}, offset, false);
    co_return ioError("cannot write");
  }
  if (fails(faults.lostWrite, offset)) co_return Result<void>{};
  uint64_t to = offset;
  if (fails(faults.misdirected, offset))
    to = faults.from +
         world_.random().below((size() - bytes - faults.from) / kBlockSize + 1) * kBlockSize;
  store(parts, to, durable);
  std::erase_if(store_.faults.bad, [&](const DiskFaults::BadRange& r) {
    return r.untilWritten && r.path == stored_->path() && to <= r.offset &&
           r.offset + r.bytes <= to + bytes;
  });
  if (fails(faults.flipOnWrite, offset)) {
    const uint64_t bit = anyBit(bytes);
    stored_->flipBit(to + bit / 8, bit % 8);
  }
  if (fails(faults.unreadable, offset))
    store_.faults.bad.push_back(
        {.path = stored_->path(),
         .offset = to + world_.random().below(bytes / kBlockSize) * kBlockSize,
         .bytes = kBlockSize,
         .writes = false,
         .untilWritten = true});
  co_return Result<void>{};
}

void SimFile::store(const std::vector<Buffer>& parts, uint64_t offset, bool durable) {
  for (const Buffer& p : parts) {
    stored_->write(offset, p.bytes(), durable);
    offset += p.size();
  }
}

Task<Result<void>> SimFile::sync() {
  const uint64_t upTo = stored_->version();
  CO_TRY(co_await node_.delay(store_.transit(store_.options.syncLatency, 0)));
  world_.trace(TraceKind::kDisk, upTo);
  if (fails(store_.faults.syncError, UINT64_MAX)) co_return ioError("cannot sync");
  stored_->syncTo(upTo);
  co_return Result<void>{};
}

}  // namespace

Task<Result<std::unique_ptr<File>>> SimDisk::open(std::string path, OpenOptions options) {
  SimDiskStore& store = node_.machine().disk;
  CO_TRY(co_await node_.delay(store.transit(store.options.readLatency, 0)));
  std::shared_ptr<StoredFile> stored = store.find(path);
  if (options.createBytes) {
    if (*options.createBytes % kBlockSize != 0)
      co_return fail(Errc::kInvalid, path + ": a size of " + std::to_string(*options.createBytes) +
                                         " bytes is no multiple of 4096");
    auto created = store.create(path, *options.createBytes);
    CO_TRY(created);
    stored = *created;
  }
  if (!stored) co_return fail(Errc::kNotFound, path + ": no such file");
  if (options.exclusive && stored->lockOwner != nullptr)
    co_return fail(Errc::kBusy, path + " is in use by another process");
  co_return std::make_unique<SimFile>(node_, stored, options);
}

Task<Result<bool>> SimDisk::makeDirectory(std::string path) {
  SimMachine& machine = node_.machine();
  CO_TRY(co_await node_.delay(machine.disk.transit(machine.disk.options.writeLatency, 0)));
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (machine.disk.find(path)) co_return fail(Errc::kNotDirectory, path + " is a file");
  const bool made = machine.disk.directories.insert(path).second;
  for (auto slash = path.rfind('/'); slash != std::string::npos && slash != 0;
       slash = path.rfind('/', slash - 1))
    machine.disk.directories.insert(path.substr(0, slash));
  co_return made;
}

Task<Result<void>> SimDisk::remove(std::string path) {
  SimMachine& machine = node_.machine();
  CO_TRY(co_await node_.delay(machine.disk.transit(machine.disk.options.writeLatency, 0)));
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  // Databases lie in the same tree as far as anyone can tell.
  if (machine.disk.directories.contains(path) && machine.kv.anyBelow(path))
    co_return fail(Errc::kNotEmpty, path + " is not empty");
  co_return machine.disk.remove(path);
}

Task<Result<uint64_t>> SimDisk::freeBytes(std::string) {
  SimMachine& machine = node_.machine();
  CO_TRY(co_await node_.delay(machine.disk.transit(machine.disk.options.readLatency, 0)));
  const auto& capacity = machine.kv.faults.capacityBytes;
  if (!capacity) co_return UINT64_MAX;
  co_return *capacity - std::min(*capacity, machine.kv.usedBytes());
}

}  // namespace cairn::sim
