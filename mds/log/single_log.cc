// One member's command log: a RingLog in a file of its own. See FORMAT.md.
//
// Invariants
//   - `queued_` holds the commands from appliedUpTo_ + 1 on, in order of index, whose fate is open.
//   - A command is handed to OnCommitted only when it, and everything before it, is durable.
#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/disk/disk.h"
#include "common/reactor/sync.h"
#include "common/wal/ring_log.h"
#include "mds/log/command_log.h"

namespace cairn::mds {
namespace {

constexpr size_t kIndexBytes = sizeof(uint64_t);

Buffer encodeIndex(BufferPool& buffers, uint64_t index) {
  Buffer b = buffers.get(kIndexBytes);
  for (size_t i = 0; i < kIndexBytes; ++i) b.data()[i] = static_cast<uint8_t>(index >> (8 * i));
  return b;
}

uint64_t decodeIndex(Bytes record) {
  uint64_t index = 0;
  for (size_t i = 0; i < kIndexBytes; ++i) index |= uint64_t{record[i]} << (8 * i);
  return index;
}

// Lets everything run that was posted before.
struct Yield {
  Reactor& reactor;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> h) const { reactor.post(h); }
  void await_resume() const {}
};

class SingleLog final : public CommandLog {
 public:
  // `offset`: index - Lsn, the same for all records.
  SingleLog(Env& env, std::unique_ptr<File> file, std::unique_ptr<RingLog> ring, uint64_t offset,
            uint64_t applied, OnCommitted onCommitted)
      : env_(env),
        file_(std::move(file)),
        ring_(std::move(ring)),
        offset_(offset),
        lastIndex_(applied),
        durableUpTo_(applied),
        appliedUpTo_(applied),
        onCommitted_(std::move(onCommitted)),
        idle_(env.reactor) {
    idle_.set();
  }

  Task<Result<LogIndex>> append(Buffer command) override {
    if (closed_) co_return fail(Errc::kCanceled, "the command log is closed");
    if (failed_) co_return fail(*failed_);
    if (kIndexBytes + command.size() > maxRecordBytes())
      co_return fail(Errc::kTooBig, "a command of " + std::to_string(command.size()) +
                                        " bytes does not fit the command log");
    const uint64_t index = ++lastIndex_;
    ++running_;
    idle_.reset();
    queued_.push_back(command);
    std::vector<Buffer> parts;
    parts.push_back(encodeIndex(env_.buffers, index));
    parts.push_back(std::move(command));
    auto lsn = co_await ring_->append(std::move(parts));
    if (lsn) {
      CAIRN_ASSERT(*lsn + offset_ == index, "records are numbered in the order of the calls");
      durableUpTo_ = std::max(durableUpTo_, index);
      // The ring wakes a whole batch at once: when all of it has been here, the first one back
      // hands it over.
      co_await Yield{env_.reactor};
      if (appliedUpTo_ < index && !failed_) handOver();
    } else if (!failed_) {
      failed_ = lsn.error();
    }
    if (--running_ == 0) idle_.set();
    if (appliedUpTo_ >= index) co_return LogIndex{index};
    co_return fail(*failed_);
  }

  bool isLeader() const override { return true; }

  void trim(LogIndex upTo) override {
    // After a failure the database may be ahead of what we know to be handed over.
    const uint64_t index = std::min(upTo.value, appliedUpTo_);
    if (index > offset_) ring_->trim(index - offset_);
  }

  double fullness() const override {
    return static_cast<double>(ring_->usedBytes()) / static_cast<double>(ring_->capacityBytes());
  }

  Task<void> close() override {
    closed_ = true;
    co_await ring_->close();
    co_await idle_.wait();
  }

 private:
  // Under the ring's limit of a quarter, with room for its batch header.
  [[nodiscard]] uint64_t maxRecordBytes() const {
    return ring_->capacityBytes() / 4 - 2 * kBlockSize;
  }

  void handOver() {
    const uint64_t count = durableUpTo_ - appliedUpTo_;
    std::vector<Bytes> commands;
    commands.reserve(count);
    for (uint64_t i = 0; i < count; ++i) commands.emplace_back(queued_[i].bytes());
    if (auto done = onCommitted_(LogIndex{appliedUpTo_ + 1}, commands); !done) {
      failed_ = done.error();
      return;
    }
    appliedUpTo_ = durableUpTo_;
    queued_.erase(queued_.begin(), queued_.begin() + static_cast<ptrdiff_t>(count));
  }

  Env& env_;
  std::unique_ptr<File> file_;
  std::unique_ptr<RingLog> ring_;
  const uint64_t offset_;
  uint64_t lastIndex_;  // given out
  uint64_t durableUpTo_;
  uint64_t appliedUpTo_;
  std::deque<Buffer> queued_;
  OnCommitted onCommitted_;
  std::optional<Error> failed_;
  bool closed_ = false;
  size_t running_ = 0;
  Event idle_;
};

// Collects replayed commands into groups and checks that they join up with the database.
class Recovery {
 public:
  Recovery(std::string path, uint64_t applied, const CommandLog::OnCommitted& onCommitted)
      : path_(std::move(path)), database_(applied), applied_(applied), onCommitted_(onCommitted) {}

  Result<void> take(Lsn lsn, Bytes record) {
    if (record.size() <= kIndexBytes)
      return fail(Errc::kCorrupt, path_ + ": record " + std::to_string(lsn) + " is too short");
    const uint64_t index = decodeIndex(record);
    if (index == 0 || (last_ != 0 && index != last_ + 1))
      return fail(Errc::kCorrupt, path_ + ": command " + std::to_string(index) +
                                      " follows command " + std::to_string(last_));
    if (index > applied_ + 1 + group_.size())
      return fail(Errc::kCorrupt,
                  path_ + ": begins at command " + std::to_string(index) +
                      ", but the database ends at " + std::to_string(applied_) +
                      ": it is older than the log; restore both from the same moment");
    last_ = index;
    offset_ = index - lsn;
    if (index <= applied_) return {};
    auto command = record.subspan(kIndexBytes);
    group_.emplace_back(command.begin(), command.end());
    groupBytes_ += command.size();
    if (groupBytes_ >= kGroupBytes) return flush();
    return {};
  }

  Result<void> finish(Lsn lastAppended) {
    TRY(flush());
    if (last_ != 0 && last_ < database_)
      return fail(Errc::kCorrupt,
                  path_ + ": ends at command " + std::to_string(last_) +
                      ", but the database is at " + std::to_string(database_) +
                      ": the log is older than the database; restore both from the same moment");
    if (last_ == 0) {
      if (lastAppended > applied_)
        return fail(Errc::kCorrupt, path_ + ": has had " + std::to_string(lastAppended) +
                                        " commands, but the database only " +
                                        std::to_string(applied_) +
                                        ": it is older than the log; restore both from the same "
                                        "moment");
      offset_ = applied_ - lastAppended;
    }
    return {};
  }

  [[nodiscard]] uint64_t applied() const { return applied_; }
  [[nodiscard]] uint64_t offset() const { return offset_; }

 private:
  static constexpr size_t kGroupBytes = kMiB;

  Result<void> flush() {
    if (group_.empty()) return {};
    std::vector<Bytes> commands(group_.begin(), group_.end());
    TRY(onCommitted_(LogIndex{applied_ + 1}, commands));
    applied_ += group_.size();
    group_.clear();
    groupBytes_ = 0;
    return {};
  }

  std::string path_;
  const uint64_t database_;
  uint64_t applied_;
  uint64_t last_ = 0;    // index of the last record seen
  uint64_t offset_ = 0;  // index - Lsn
  std::vector<std::vector<uint8_t>> group_;
  size_t groupBytes_ = 0;
  const CommandLog::OnCommitted& onCommitted_;
};

constexpr uint64_t kScanBytes = kMiB;

// Whether the whole file is zeros: made, but its first start was interrupted before the ring was.
Task<Result<bool>> isBlank(Env& env, File& file) {
  for (uint64_t at = 0; at < file.size(); at += kScanBytes) {
    Buffer b = env.buffers.get(std::min(kScanBytes, roundDown(file.size() - at, kBlockSize)));
    if (b.empty()) break;
    CO_TRY(co_await file.read(b, at));
    if (b.data()[0] != 0 || std::memcmp(b.data(), b.data() + 1, b.size() - 1) != 0) co_return false;
  }
  co_return true;
}

// Opens the file, or makes it. Afterwards it holds a ring.
Task<Result<std::unique_ptr<File>>> openFile(Env& env, const SingleLogOptions& options) {
  auto file = co_await env.disk.open(options.path, {});
  if (!file && file.error().code == Errc::kNotFound) {
    if (!options.create || options.applied)
      co_return fail(Errc::kNotFound,
                     options.path + ": the command log is missing, but the database holds " +
                         std::to_string(options.applied.value) +
                         " commands: put it back; without it the latest changes are lost");
    OpenOptions make;
    make.createBytes = options.bytes;
    make.zeroBytes = options.bytes;
    file = co_await env.disk.open(options.path, make);
    CO_TRY(file);
    CO_TRY(co_await RingLog::format(env, **file, {0, options.bytes}, options.identity));
    co_return std::move(*file);
  }
  CO_TRY(file);
  if (options.create && !options.applied) {
    auto blank = co_await isBlank(env, **file);
    CO_TRY(blank);
    if (*blank) {
      if ((*file)->size() < options.bytes)
        co_return fail(Errc::kCorrupt, options.path +
                                           ": is too short and empty: the first start was "
                                           "interrupted; remove it and start again");
      CO_TRY(co_await RingLog::format(env, **file, {0, roundDown((*file)->size(), kBlockSize)},
                                      options.identity));
    }
  }
  co_return std::move(*file);
}

}  // namespace

Task<Result<std::unique_ptr<CommandLog>>> CommandLog::openSingle(Env& env, SingleLogOptions options,
                                                                 OnCommitted onCommitted) {
  auto file = co_await openFile(env, options);
  CO_TRY(file);
  Recovery recovery(options.path, options.applied.value, onCommitted);
  // A plain function object, not a coroutine: it may refer to the frame.
  auto ring = co_await RingLog::open(
      env, **file, {0, roundDown((*file)->size(), kBlockSize)}, options.identity,
      [&recovery](Lsn lsn, Bytes record) { return recovery.take(lsn, record); });
  if (!ring) {
    Error error = ring.error();
    if (error.message.find(options.path) == std::string::npos)
      error.message = options.path + ": " + error.message;
    co_return fail(std::move(error));
  }
  if (auto joined = recovery.finish((*ring)->lastAppended()); !joined) {
    co_await (*ring)->close();
    co_return fail(joined.error());
  }
  co_return std::make_unique<SingleLog>(env, std::move(*file), std::move(*ring), recovery.offset(),
                                        recovery.applied(), std::move(onCommitted));
}

}  // namespace cairn::mds
