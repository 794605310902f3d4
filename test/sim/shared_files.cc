#include "test/sim/shared_files.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "common/base/buffer.h"
#include "common/reactor/clock.h"
#include "common/reactor/reactor.h"

namespace cairn::sim::test {
namespace {

constexpr size_t kSlots = 12;
constexpr size_t kRecordBytes = 24;

std::string recordOf(size_t agent, uint64_t n) {
  char text[kRecordBytes + 1];
  std::snprintf(text, sizeof text, "agent %zu record %08llu\n", agent,
                static_cast<unsigned long long>(n));
  return {text, kRecordBytes};
}

Buffer bufferOf(Env& env, const std::string& data) {
  return env.buffers.copyOf({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
}

}  // namespace

bool SharedFiles::fail(const Agent& a, const std::string& what) {
  if (failure_.empty()) failure_ = "agent " + std::to_string(a.number) + ": " + what;
  return false;
}

bool SharedFiles::failed(const Agent& a, const char* what, const Error& error) {
  return fail(a, std::string(what) + ": " + error.text());
}

Task<void> SharedFiles::prepare(Env& env, client::Filesystem& fs) {
  Agent a{&env, &fs, nullptr, nullptr, 0};
  for (size_t i = 0; i < kSlots; ++i) {
    Slot s;
    // Some adjoin each other, one lies across two chunks; none is aligned.
    s.length = static_cast<uint32_t>(8 * (1 + random_.below(2000)));
    s.offset = i == 0 ? 40 : slots_.back().offset + slots_.back().length + 8 * random_.below(3);
    if (i == kSlots - 1) s.offset = kChunkSize - 4000;
    slots_.push_back(s);
  }
  slots_.back().length = 8000;
  for (auto [name, ino] : {std::pair("slots", &slotsFile_), std::pair("log", &logFile_)}) {
    auto made = co_await fs.create(kRootInode, name, 0644, {}, O_RDWR | O_CREAT | O_EXCL);
    if (!made) {
      failed(a, "create", made.error());
      co_return;
    }
    *ino = made->attr.ino;
    co_await fs.release(made->handle);
  }
}

Task<void> SharedFiles::run(size_t agent, Env& env, client::Filesystem& fs, uint64_t steps) {
  ++running_;
  Agent a{&env, &fs, nullptr, nullptr, agent};
  auto slots = co_await fs.open(slotsFile_, O_RDWR | (random_.chance(1, 4) ? O_DIRECT : 0));
  auto log = co_await fs.open(logFile_, O_RDWR | O_APPEND);
  if (!slots || !log) {
    failed(a, "open", slots ? log.error() : slots.error());
  } else {
    a.slots = slots->handle;
    a.log = log->handle;
    for (uint64_t i = 0; i < steps && failure_.empty(); ++i) {
      if (!co_await step(a)) break;
      if (random_.chance(1, 4)) co_await sleepFor(env.reactor, 1ms * random_.below(100));
    }
    for (auto& h : {a.slots, a.log}) {
      if (auto flushed = co_await fs.flush(h); !flushed) failed(a, "close", flushed.error());
      co_await fs.release(h);
    }
  }
  --running_;
}

Task<bool> SharedFiles::step(Agent& a) {
  Slot& slot = slots_[random_.below(slots_.size())];
  switch (random_.below(8)) {
    case 0:
    case 1:
    case 2:
      return slot.writing ? readSlot(a, slot) : writeSlot(a, slot);
    case 3:
    case 4:
      return readSlot(a, slot);
    case 5:
    case 6:
      return append(a);
    default:
      return readLog(a);
  }
}

Task<bool> SharedFiles::writeSlot(Agent& a, Slot& slot) {
  slot.writing = true;
  const uint64_t number = ++slot.begun;
  std::string data(slot.length, '\0');
  for (size_t i = 0; i < data.size(); i += 8) std::memcpy(data.data() + i, &number, 8);
  auto written = co_await a.fs->write(a.slots, slot.offset, bufferOf(*a.env, data));
  slot.writing = false;
  if (!written) co_return failed(a, "write", written.error());
  slot.seen = std::max(slot.seen, number);
  co_return true;
}

Task<bool> SharedFiles::readAll(Agent& a, std::shared_ptr<client::Handle> h, uint64_t from,
                                uint64_t length, std::string& out) {
  while (length > 0) {
    const auto piece = static_cast<uint32_t>(std::min<uint64_t>(length, kMiB));
    auto parts = co_await a.fs->read(h, from, piece);
    if (!parts) co_return failed(a, "read", parts.error());
    size_t got = 0;
    for (const Buffer& b : *parts) {
      out.append(reinterpret_cast<const char*>(b.data()), b.size());
      got += b.size();
    }
    if (got < piece) break;
    from += piece;
    length -= piece;
  }
  co_return true;
}

Task<bool> SharedFiles::readSlot(Agent& a, Slot& slot) {
  const uint64_t least = slot.seen;
  std::string got;
  if (!co_await readAll(a, a.slots, slot.offset, slot.length, got)) co_return false;
  // Nobody has written behind the end of the file yet.
  if (got.size() < slot.length && least == 0 && slot.begun == 0) co_return true;
  uint64_t number = 0;
  if (got.size() >= 8) std::memcpy(&number, got.data(), 8);
  got.resize(slot.length, '\0');
  for (size_t i = 0; i < got.size(); i += 8)
    if (std::memcmp(got.data() + i, &number, 8) != 0)
      co_return fail(a, "a slot at " + std::to_string(slot.offset) +
                            " is torn: " + std::to_string(number) +
                            " at its start, something else at byte " + std::to_string(i));
  if (number < least || number > slot.begun)
    co_return fail(a, "a slot at " + std::to_string(slot.offset) + " holds " +
                          std::to_string(number) + ", not in " + std::to_string(least) + ".." +
                          std::to_string(slot.begun));
  slot.seen = std::max(slot.seen, number);
  co_return true;
}

Task<bool> SharedFiles::append(Agent& a) {
  const std::string record = recordOf(a.number, appended_[a.number]);
  auto written = co_await a.fs->write(a.log, 0, bufferOf(*a.env, record));
  if (!written) co_return failed(a, "append", written.error());
  ++appended_[a.number];
  co_return true;
}

Task<bool> SharedFiles::readLog(Agent& a) {
  const auto before = appended_;
  std::string got;
  if (!co_await readAll(a, a.log, 0, 64 * kMiB, got)) co_return false;
  if (got.size() % kRecordBytes != 0) co_return fail(a, "the log ends in the middle of a record");
  std::array<uint64_t, kAgents> found{};
  for (size_t at = 0; at < got.size(); at += kRecordBytes) {
    const std::string record = got.substr(at, kRecordBytes);
    bool known = false;
    for (size_t i = 0; i < kAgents && !known; ++i)
      if (record == recordOf(i, found[i])) ++found[i], known = true;
    if (!known) co_return fail(a, "the log has '" + record + "' at " + std::to_string(at));
  }
  for (size_t i = 0; i < kAgents; ++i)
    if (found[i] < before[i] || found[i] > appended_[i] + 1)
      co_return fail(a, "the log has " + std::to_string(found[i]) + " records of agent " +
                            std::to_string(i) + ", not " + std::to_string(before[i]));
  co_return true;
}

Task<void> SharedFiles::verify(Env& env, client::Filesystem& fs) {
  ++running_;
  Agent a{&env, &fs, nullptr, nullptr, 0};
  auto slots = co_await fs.open(slotsFile_, O_RDONLY);
  auto log = co_await fs.open(logFile_, O_RDONLY);
  if (!slots || !log) {
    failed(a, "open", slots ? log.error() : slots.error());
  } else {
    a.slots = slots->handle;
    a.log = log->handle;
    for (Slot& slot : slots_) {
      slot.seen = slot.begun;
      if (!co_await readSlot(a, slot)) break;
    }
    if (failure_.empty()) (void)co_await readLog(a);
    co_await fs.release(a.slots);
    co_await fs.release(a.log);
  }
  --running_;
}

}  // namespace cairn::sim::test
