#include "mds/state/machine.h"

#include <sys/stat.h>

#include "common/base/assert.h"
#include "mds/ops/ops.h"
#include "mds/state/keys.h"

namespace cairn::mds {
namespace {

constexpr size_t kScratchWords = 4096;  // 32 KiB: an answer of 1,024 chunks
// Answers a session may leave unacknowledged: bounds the memory and the space of one client.
constexpr size_t kMaxRemembered = 65536;

// Whether the session and number of a command make it one that is done only once.
bool isProtected(schema::Command::Reader c) {
  return c.getSession() != 0 && c.getSeq() != 0;
}

Applied failureOf(Error error) {
  Applied a;
  a.code = error.code;
  a.detail = std::move(error.message);
  return a;
}

// The database's, or of what is stored in it: nothing that a command may cause by itself.
bool isStorageFailure(Errc code) {
  return code == Errc::kIo || code == Errc::kCorrupt || code == Errc::kVersion;
}

}  // namespace

bool Inode::isDirectory() const {
  return S_ISDIR(mode);
}
bool Inode::isRegular() const {
  return S_ISREG(mode);
}
bool Inode::isSymlink() const {
  return S_ISLNK(mode);
}

bool Inode::condemns(uint32_t index, ChunkId id) const {
  // Both fields ascend: the last step that reaches the index covers all before it.
  for (auto step = condemned.rbegin(); step != condemned.rend(); ++step)
    if (step->from <= index) return id.value < step->below;
  return false;
}

void Inode::write(schema::Attr::Builder attr) const {
  attr.setIno(ino.value);
  attr.setGeneration(generation);
  attr.setMode(mode);
  attr.setNlink(nlink);
  attr.setUid(uid);
  attr.setGid(gid);
  attr.setRdev(rdev);
  attr.setSize(size);
  attr.setAtimeNs(atimeNs);
  attr.setMtimeNs(mtimeNs);
  attr.setCtimeNs(ctimeNs);
  attr.setBtimeNs(btimeNs);
  attr.setPool(pool.value);
  attr.setChunkCount(chunkCount);
  attr.setTailUnclean(tailUnclean);
  attr.setParent(parent.value);
  attr.setChangeVersion(changeVersion);
  attr.setDataVersion(dataVersion);
  attr.setBare(xattrCount == 0);
}

Result<std::unique_ptr<StateMachine>> StateMachine::open(Env& env, const std::string& path,
                                                         size_t cacheBytes) {
  KvOptions kvOptions;
  kvOptions.cacheBytes = cacheBytes / 2;
  auto kv = env.kv.open(env.reactor, path, kvOptions);
  TRY(kv);
  StateOptions options;
  options.cacheBytes = cacheBytes - kvOptions.cacheBytes;
  auto machine = open(std::move(*kv), options);
  if (!machine) {
    Error error = std::move(machine).error();
    error.message = "metadata in " + path + ": " + error.message;
    return fail(std::move(error));
  }
  return machine;
}

Result<std::unique_ptr<StateMachine>> StateMachine::open(std::unique_ptr<Kv> kv,
                                                         StateOptions options) {
  auto machine = std::make_unique<Machine>(std::move(kv), options);
  TRY(machine->load());
  return std::unique_ptr<StateMachine>(std::move(machine));
}

Machine::Machine(std::unique_ptr<Kv> kv, const StateOptions& options)
    : kv_(std::move(kv)),
      state_(*kv_, options.cacheBytes, options.cookieOf != nullptr ? options.cookieOf : nameCookie),
      scratch_(kj::heapArray<capnp::word>(kScratchWords)) {
  memset(scratch_.begin(), 0, scratch_.asBytes().size());
}

Result<std::vector<Applied>> Machine::apply(LogIndex first,
                                            std::span<const schema::Command::Reader> commands) {
  if (broken_) return fail(*broken_);
  auto stop = [&](Error error) {
    broken_ = error;
    return fail(std::move(error));
  };
  if (first.value > applied().value + 1)
    return stop(
        Error(Errc::kCorrupt, "the log continues at command " + std::to_string(first.value) +
                                  ", but the metadata ends at " + std::to_string(applied().value) +
                                  ": they are not of one history"));
  std::vector<Applied> out(commands.size());
  bool any = false;
  for (size_t i = 0; i < commands.size(); ++i) {
    LogIndex index(first.value + i);
    if (index <= applied()) continue;
    auto one = applyOne(commands[i]);
    if (!one) return stop(std::move(one).error());
    out[i] = std::move(*one);
    state_.counters.applied = index;
    any = true;
  }
  if (!any) return out;
  state_.txn.put(keys::counters(), encodeCounters(state_.counters));
  if (auto written = state_.txn.commit(); !written) return stop(std::move(written).error());
  return out;
}

// Exactly once: a number of a session that was answered is answered the same again.
Result<Applied> Machine::applyOne(schema::Command::Reader command) {
  if (!isProtected(command)) {
    const SessionId id(command.getSession());
    if (id && !state_.sessions.contains(id)) return failureOf(Error(Errc::kSessionExpired));
    return execute(command);
  }
  const SessionId id(command.getSession());
  const uint64_t seq = command.getSeq();
  auto found = state_.sessions.find(id);
  if (found == state_.sessions.end()) return failureOf(Error(Errc::kSessionExpired));
  Session& session = found->second;
  if (seq < session.ackedBelow)
    return failureOf(Error(Errc::kInvalid, "a mutation came again after it was acknowledged"));
  if (session.remembered.contains(seq)) {
    const auto key = keys::reply(id, seq);
    auto value = state_.txn.get(key);
    TRY(value);
    if (!*value) return fail(Errc::kCorrupt, "record " + keys::text(key) + " is missing");
    auto reply = decodeReply(key, **value);
    TRY(reply);
    return std::move(reply->applied);
  }
  if (session.remembered.size() >= kMaxRemembered)
    return failureOf(Error(Errc::kBusyTryLater, "too many unacknowledged mutations"));

  auto done = execute(command);
  TRY(done);
  // An answer that asks for another try is not the last word. And the command may have ended its
  // own session.
  if (Error(done->code).retryable() || !state_.sessions.contains(id)) return done;
  // The newest reply carries the session's ackedBelow, and is never below it: so this needs no
  // record of its own.
  session.ackedBelow = std::max(session.ackedBelow, std::min(command.getAckedBelow(), seq));
  auto end = session.remembered.lower_bound(session.ackedBelow);
  for (auto it = session.remembered.begin(); it != end; it = session.remembered.erase(it))
    state_.txn.del(keys::reply(id, *it));
  session.remembered.insert(seq);
  state_.txn.put(keys::reply(id, seq), encodeReply({session.ackedBelow, *done}));
  return done;
}

// One command, with all of its effects or none.
Result<Applied> Machine::execute(schema::Command::Reader command) {
  state_.txn.mark();
  OpContext ctx(state_, command, scratch_.asPtr());
  Result<void> done;
  try {
    done = ops::dispatch(ctx);
  } catch (const kj::Exception& e) {
    // The pointers of the message lead nowhere. Who wrote it to the log had to check; every member
    // of the group sees the same bytes and says the same.
    done = fail(Errc::kBadMessage, "malformed command");
  }
  if (state_.txn.failure()) return fail(*state_.txn.failure());
  if (!done) {
    if (isStorageFailure(done.error().code)) return fail(std::move(done).error());
    state_.txn.rollback();
    return failureOf(std::move(done).error());
  }
  ctx.finish();
  Applied applied;
  applied.reply = ctx.takeReply();
  return applied;
}

}  // namespace cairn::mds
