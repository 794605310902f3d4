// One application on one mount: a coroutine that does random operations in a directory of its own,
// one after the other, and compares every result with what its model of that directory says. Many
// run at once, on all mounts.
//
// A worker outlives its mount. When the mount is killed, run() ends, and the operation that was
// under way may have happened or not; verify(), on a new mount, finds out which, and fails if the
// directory is neither as before nor as after. What was acknowledged must be there either way.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/core/filesystem.h"
#include "common/reactor/clock.h"
#include "common/reactor/task.h"
#include "test/sim/file_model.h"

namespace cairn::sim::test {

// What all workers of a cluster share.
struct Shared {
  std::string failure;  // the first; everybody stops
  int lockHolders = 0;  // of the directory that serves as a lock
  uint64_t operations = 0;

  void fail(std::string what) {
    if (failure.empty()) failure = std::move(what);
  }
};

class Worker {
 public:
  Worker(Shared& shared, int number, uint64_t seed);

  // Makes its directory. Once, before the first run().
  Task<void> prepare(Env& env, client::Filesystem& fs);
  // `steps` operations on `fs`. `other` is another mount of the same cluster, or `fs` again: what
  // was closed on one is looked at through it. Nothing stays open.
  Task<void> run(Env& env, client::Filesystem& fs, client::Filesystem& other, uint64_t steps);
  // Compares everything with the model. What was uncertain after a crash is taken as found, and
  // written again, so that it no longer is.
  Task<void> verify(Env& env, client::Filesystem& fs);

  [[nodiscard]] InodeId directory() const { return directory_; }
  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool interrupted() const { return interrupted_; }

 private:
  enum class Kind : uint8_t { kFile, kDirectory, kSymlink };
  using Xattrs = std::map<std::string, std::string>;
  struct Object {
    Object(Kind k, uint64_t base) : kind(k), content(base) {}
    const Kind kind;
    InodeId ino;  // 0: not known, its making was interrupted
    FileModel content;
    std::string target;
    Xattrs xattrs;
    std::optional<Xattrs> xattrsOr;  // after an interrupted change
    std::shared_ptr<client::Handle> handle;
    bool direct = false;
  };
  using ObjectPtr = std::shared_ptr<Object>;
  using Names = std::map<std::string, ObjectPtr>;

  // ---- Operations: false when the run is over ----
  Task<bool> step();
  Task<bool> ensureOpen(ObjectPtr o);
  Task<bool> close(ObjectPtr o);
  Task<bool> makeFile();
  Task<bool> makeOther();
  Task<bool> writeSome();
  Task<bool> append();
  Task<bool> readSome();
  Task<bool> truncate();
  Task<bool> allocate();
  Task<bool> copySome();
  Task<bool> fsync();
  Task<bool> rename();
  Task<bool> remove();
  Task<bool> link();
  Task<bool> changeXattr();
  Task<bool> list();
  Task<bool> stat();
  Task<bool> lookAsOther();
  Task<bool> lockStep();
  Task<bool> closeAll();
  Task<void> pauseFor(Duration d);

  Task<bool> readAll(client::Filesystem& fs, std::shared_ptr<client::Handle> h, uint64_t from,
                     uint64_t to, std::string& out);
  Task<bool> listNames(client::Filesystem& fs, std::map<std::string, InodeId>& out);
  Task<bool> verifyObject(const std::string& name, ObjectPtr o);
  Task<bool> settle(ObjectPtr o);
  Task<bool> setSize(ObjectPtr o, uint64_t size);
  bool matches(const std::map<std::string, InodeId>& found, const Names& names) const;

  // ---- Judging results ----
  // True if `got` is what was expected (kOk for success). Interruption and surprises end the run.
  bool expect(const char* what, Errc got, Errc wanted, const std::string& detail);
  template <class T>
  bool expect(const char* what, const Result<T>& r, Errc wanted = Errc::kOk) {
    return expect(what, r ? Errc::kOk : r.error().code, wanted, r ? "" : r.error().text());
  }
  bool wrong(const std::string& what);
  // For the log of a replay.
  void begin(const char* what, const Object& o, uint64_t at, uint64_t n);
  // The directory may be as now or as `after` until commitNames().
  void intend(Names after) { namesOr_ = std::move(after); }
  void commitNames() {
    names_ = std::move(*namesOr_);
    namesOr_.reset();
  }
  void cancelNames() { namesOr_.reset(); }

  std::string anyName();
  ObjectPtr anyFile();  // one that has a name, or was removed while open
  Task<bool> setSizeOf(ObjectPtr o, uint64_t size);
  [[nodiscard]] uint32_t links(const Object& o) const;
  [[nodiscard]] std::string bytes(uint64_t n);
  Buffer buffer(const std::string& data);

  Shared& shared_;
  const int number_;
  SeededRandom random_;
  InodeId directory_;
  Names names_;
  std::optional<Names> namesOr_;
  std::vector<ObjectPtr> removed_;  // open, without a name

  // Of the run.
  Env* env_ = nullptr;
  client::Filesystem* fs_ = nullptr;
  client::Filesystem* other_ = nullptr;
  bool done_ = false, interrupted_ = false;
};

}  // namespace cairn::sim::test
