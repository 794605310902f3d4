#include "test/sim/worker.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>

#include "common/base/buffer.h"
#include "common/logging/log.h"
#include "common/reactor/reactor.h"

namespace cairn::sim::test {
namespace {

constexpr uint64_t kSpace = 300'000;  // bytes of a file that are touched
constexpr const char* kLock = "lock";

// Nothing if equal; otherwise where they differ first. `at`: of the first byte in the file.
std::string difference(const std::string& got, const std::string& wanted, uint64_t at) {
  if (got == wanted) return {};
  if (got.size() != wanted.size())
    return std::to_string(got.size()) + " bytes, expected " + std::to_string(wanted.size());
  const auto where = std::ranges::mismatch(got, wanted).in1 - got.begin();
  const auto i = static_cast<size_t>(where);
  return "byte " + std::to_string(at + i) + " is " + std::to_string(static_cast<uint8_t>(got[i])) +
         ", expected " + std::to_string(static_cast<uint8_t>(wanted[i]));
}

}  // namespace

Worker::Worker(Shared& shared, int number, uint64_t seed)
    : shared_(shared), number_(number), random_(seed) {}

// ---- Judging results ----

bool Worker::wrong(const std::string& what) {
  shared_.fail("worker " + std::to_string(number_) + ": " + what);
  return false;
}

bool Worker::expect(const char* what, Errc got, Errc wanted, const std::string& detail) {
  env_->log.debug(what, {{"worker", number_}, {"got", errcName(got)}});
  if (got == wanted) return true;
  if (got == Errc::kCanceled) {
    interrupted_ = true;
    return false;
  }
  return wrong(std::string(what) + ": expected " + std::string(errcName(wanted)) + ", got " +
               std::string(errcName(got)) + " " + detail);
}

void Worker::begin(const char* what, const Object& o, uint64_t at, uint64_t n) {
  env_->log.debug(std::string("begins ") + what,
                  {{"worker", number_}, {"inode", o.ino.value}, {"at", at}, {"bytes", n}});
}

// ---- Choosing ----

std::string Worker::anyName() {
  return std::string(1, static_cast<char>('a' + random_.below(7)));
}

Worker::ObjectPtr Worker::anyFile() {
  std::vector<ObjectPtr> files = removed_;
  for (const auto& [name, o] : names_)
    if (o->kind == Kind::kFile) files.push_back(o);
  return files.empty() ? nullptr : files[random_.below(files.size())];
}

uint32_t Worker::links(const Object& o) const {
  return static_cast<uint32_t>(
      std::ranges::count_if(names_, [&o](const auto& entry) { return entry.second.get() == &o; }));
}

std::string Worker::bytes(uint64_t n) {
  SeededRandom r(random_.next());
  std::string out(n, '\0');
  for (size_t i = 0; i < n; i += 8) {
    const uint64_t word = r.next();
    for (size_t k = 0; k < 8 && i + k < n; ++k) out[i + k] = static_cast<char>(word >> (8 * k));
  }
  return out;
}

Buffer Worker::buffer(const std::string& data) {
  return env_->buffers.copyOf({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
}

Task<void> Worker::pauseFor(Duration d) {
  co_await sleepFor(env_->reactor, d);
}

// ---- The run ----

Task<void> Worker::prepare(Env& env, client::Filesystem& fs) {
  env_ = &env;
  auto made = co_await fs.mkdir(kRootInode, "w" + std::to_string(number_), 0755, {});
  if (expect("mkdir of the worker's directory", made)) directory_ = made->ino;
  done_ = true;
}

Task<void> Worker::run(Env& env, client::Filesystem& fs, client::Filesystem& other,
                       uint64_t steps) {
  env_ = &env;
  fs_ = &fs;
  other_ = &other;
  done_ = interrupted_ = false;
  bool going = true;
  for (uint64_t i = 0; i < steps && going && shared_.failure.empty(); ++i) {
    going = co_await step();
    ++shared_.operations;
    if (going && random_.chance(1, 8)) co_await pauseFor(1ms * random_.below(400));
  }
  if (going && shared_.failure.empty()) co_await closeAll();
  for (auto& [name, o] : names_) o->handle.reset();
  if (namesOr_)
    for (auto& [name, o] : *namesOr_) o->handle.reset();
  for (auto& o : removed_) o->handle.reset();
  removed_.clear();
  done_ = true;
}

Task<bool> Worker::step() {
  switch (random_.below(35)) {
    case 0:
    case 1:
    case 2:
      return makeFile();
    case 3:
      return makeOther();
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
      return writeSome();
    case 10:
      return append();
    case 11:
    case 12:
    case 13:
    case 14:
    case 15:
      return readSome();
    case 16:
      return truncate();
    case 17:
      return allocate();
    case 18:
    case 19:
    case 20:
      return fsync();
    case 21:
    case 22:
      return rename();
    case 23:
    case 24:
      return remove();
    case 25:
      return link();
    case 26:
      return changeXattr();
    case 27:
      return list();
    case 28:
      return stat();
    case 29:
    case 30:
      return lookAsOther();
    case 31:
    case 32:
    case 33:
      return copySome();
    default:
      return lockStep();
  }
}

// ---- Open files ----

Task<bool> Worker::ensureOpen(ObjectPtr o) {
  if (o->handle) co_return true;
  o->direct = random_.chance(1, 4);
  auto opened = co_await fs_->open(o->ino, O_RDWR | (o->direct ? O_DIRECT : 0));
  if (!expect("open", opened)) co_return false;
  o->handle = opened->handle;
  if (opened->attr.size != o->content.size())
    co_return wrong("open: size " + std::to_string(opened->attr.size) + ", expected " +
                    std::to_string(o->content.size()));
  co_return true;
}

Task<bool> Worker::close(ObjectPtr o) {
  if (!o->handle) co_return true;
  auto flushed = co_await fs_->flush(o->handle);
  if (!expect("close", flushed)) co_return false;
  co_await fs_->release(std::exchange(o->handle, nullptr));
  std::erase(removed_, o);
  co_return true;
}

Task<bool> Worker::closeAll() {
  while (!removed_.empty())
    if (!co_await close(removed_.back())) co_return false;
  std::vector<ObjectPtr> objects;
  for (auto& [name, o] : names_) objects.push_back(o);
  for (auto& o : objects)
    if (!co_await close(o)) co_return false;
  co_return true;
}

// ---- Names ----

Task<bool> Worker::makeFile() {
  const std::string name = anyName();
  // Some files lie around the end of their first chunk.
  const uint64_t base = random_.chance(1, 4) ? kChunkSize - kSpace / 2 : 0;
  auto o = std::make_shared<Object>(Kind::kFile, base);
  const Errc wanted = names_.contains(name) ? Errc::kExists : Errc::kOk;
  if (wanted == Errc::kOk) {
    Names after = names_;
    after[name] = o;
    intend(std::move(after));
  }
  auto made = co_await fs_->create(directory_, name, 0644, {}, O_RDWR | O_CREAT | O_EXCL);
  if (!expect("create", made, wanted)) co_return false;
  if (wanted != Errc::kOk) co_return true;
  o->ino = made->attr.ino;
  o->handle = made->handle;
  commitNames();
  co_return true;
}

Task<bool> Worker::makeOther() {
  const std::string name = anyName();
  const bool symlink = random_.chance(1, 2);
  auto o = std::make_shared<Object>(symlink ? Kind::kSymlink : Kind::kDirectory, 0);
  if (symlink) o->target = "to/" + std::to_string(random_.below(1000));
  const Errc wanted = names_.contains(name) ? Errc::kExists : Errc::kOk;
  if (wanted == Errc::kOk) {
    Names after = names_;
    after[name] = o;
    intend(std::move(after));
  }
  Result<client::Attr> made = fail(Errc::kInvalid);
  if (symlink)
    made = co_await fs_->symlink(directory_, name, o->target, {});
  else
    made = co_await fs_->mkdir(directory_, name, 0755, {});
  if (!expect(symlink ? "symlink" : "mkdir", made, wanted)) co_return false;
  if (wanted != Errc::kOk) co_return true;
  o->ino = made->ino;
  commitNames();
  co_return true;
}

Task<bool> Worker::rename() {
  const std::string from = anyName(), to = anyName();
  const auto source = names_.find(from);
  const auto victim = names_.find(to);
  Errc wanted = Errc::kOk;
  ObjectPtr lost;
  if (source == names_.end()) {
    wanted = Errc::kNotFound;
  } else if (victim != names_.end() && victim->second != source->second) {
    const bool directory = source->second->kind == Kind::kDirectory;
    const bool overDirectory = victim->second->kind == Kind::kDirectory;
    if (directory && !overDirectory) wanted = Errc::kNotDirectory;
    if (!directory && overDirectory) wanted = Errc::kIsDirectory;
    lost = victim->second;
  }
  // Two names of one inode: rename(2) does nothing.
  const bool same =
      source != names_.end() && victim != names_.end() && source->second == victim->second;
  if (wanted == Errc::kOk) {
    Names after = names_;
    if (!same) {
      after[to] = source->second;
      after.erase(from);
    }
    intend(std::move(after));
  }
  auto done = co_await fs_->rename(directory_, from, directory_, to, 0);
  if (!expect("rename", done, wanted)) co_return false;
  if (wanted != Errc::kOk) co_return true;
  commitNames();
  if (lost && lost->handle && links(*lost) == 0) removed_.push_back(lost);
  co_return true;
}

Task<bool> Worker::remove() {
  const std::string name = anyName();
  const bool directory = random_.chance(1, 5);
  const auto found = names_.find(name);
  Errc wanted = Errc::kOk;
  ObjectPtr lost;
  if (found == names_.end()) {
    wanted = Errc::kNotFound;
  } else {
    lost = found->second;
    const bool isDirectory = lost->kind == Kind::kDirectory;
    if (directory && !isDirectory) wanted = Errc::kNotDirectory;
    if (!directory && isDirectory) wanted = Errc::kIsDirectory;
  }
  if (wanted == Errc::kOk) {
    Names after = names_;
    after.erase(name);
    intend(std::move(after));
  }
  Result<void> done = fail(Errc::kInvalid);
  if (directory)
    done = co_await fs_->rmdir(directory_, name);
  else
    done = co_await fs_->unlink(directory_, name);
  if (!expect(directory ? "rmdir" : "unlink", done, wanted)) co_return false;
  if (wanted != Errc::kOk) co_return true;
  commitNames();
  if (lost->handle && links(*lost) == 0) removed_.push_back(lost);
  co_return true;
}

Task<bool> Worker::link() {
  const std::string name = anyName();
  ObjectPtr o = anyFile();
  if (!o || links(*o) == 0) co_return true;
  const Errc wanted = names_.contains(name) ? Errc::kExists : Errc::kOk;
  if (wanted == Errc::kOk) {
    Names after = names_;
    after[name] = o;
    intend(std::move(after));
  }
  auto done = co_await fs_->link(o->ino, directory_, name);
  if (!expect("link", done, wanted)) co_return false;
  if (wanted == Errc::kOk) commitNames();
  co_return true;
}

Task<bool> Worker::changeXattr() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  const std::string name = "user." + anyName();
  Xattrs after = o->xattrs;
  if (random_.chance(2, 3)) {
    const std::string value = bytes(random_.below(300));
    after[name] = value;
    o->xattrsOr = after;
    if (!expect("setxattr", co_await fs_->setxattr(o->ino, name, value, 0, false))) co_return false;
  } else {
    const Errc wanted = after.erase(name) == 0 ? Errc::kNoAttribute : Errc::kOk;
    o->xattrsOr = after;
    if (!expect("removexattr", co_await fs_->removexattr(o->ino, name), wanted)) co_return false;
  }
  o->xattrs = std::move(*o->xattrsOr);
  o->xattrsOr.reset();
  co_return true;
}

Task<bool> Worker::list() {
  std::map<std::string, InodeId> found;
  if (!co_await listNames(*fs_, found)) co_return false;
  if (!matches(found, names_)) co_return wrong("readdir: not the names that there are");
  const std::string name = anyName();
  auto at = co_await fs_->lookup(directory_, name);
  if (!expect("lookup", at, names_.contains(name) ? Errc::kOk : Errc::kNotFound)) co_return false;
  if (at && at->ino != names_[name]->ino) co_return wrong("lookup: another inode");
  co_return true;
}

Task<bool> Worker::stat() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  if (links(*o) == 0 && !co_await ensureOpen(o)) co_return false;
  auto attr = co_await fs_->getattr(o->ino);
  if (!expect("getattr", attr)) co_return false;
  if (attr->size != o->content.size())
    co_return wrong("getattr: size " + std::to_string(attr->size) + ", expected " +
                    std::to_string(o->content.size()));
  if (attr->nlink != links(*o)) co_return wrong("getattr: nlink " + std::to_string(attr->nlink));
  auto names = co_await fs_->listxattr(o->ino);
  if (!expect("listxattr", names)) co_return false;
  if (names->size() != o->xattrs.size()) co_return wrong("listxattr: not the names there are");
  for (const auto& [name, value] : o->xattrs) {
    auto got = co_await fs_->getxattr(o->ino, name);
    if (!expect("getxattr", got)) co_return false;
    if (*got != value) co_return wrong("getxattr: not what was set");
  }
  co_return true;
}

// ---- Contents ----

Task<bool> Worker::writeSome() {
  ObjectPtr o = anyFile();
  if (!o) co_return co_await makeFile();
  if (!co_await ensureOpen(o)) co_return false;
  const uint64_t at = random_.below(kSpace);
  const uint64_t most = random_.chance(1, 3) ? kSpace : 20'000;
  const std::string data = bytes(1 + random_.below(std::min(most, kSpace - at)));
  const uint64_t offset = o->content.base() + at;
  begin("write", *o, offset, data.size());
  o->content.write(offset, data);
  if (!expect("write", co_await fs_->write(o->handle, offset, buffer(data)))) co_return false;
  if (o->direct) o->content.written(offset, data);
  co_return true;
}

Task<bool> Worker::append() {
  ObjectPtr o = anyFile();
  if (!o || links(*o) == 0 || o->content.size() < o->content.base()) co_return true;
  if (o->content.size() > o->content.base() + 2 * kSpace) co_return true;
  auto opened = co_await fs_->open(o->ino, O_WRONLY | O_APPEND);
  if (!expect("open to append", opened)) co_return false;
  for (uint64_t i = 0, n = 1 + random_.below(4); i < n; ++i) {
    const std::string data = bytes(1 + random_.below(9000));
    begin("append", *o, o->content.size(), data.size());
    o->content.write(o->content.size(), data);
    if (!expect("append", co_await fs_->write(opened->handle, 0, buffer(data)))) co_return false;
  }
  if (!expect("close", co_await fs_->flush(opened->handle))) co_return false;
  co_await fs_->release(opened->handle);
  co_return true;
}

Task<bool> Worker::readAll(client::Filesystem& fs, std::shared_ptr<client::Handle> h, uint64_t from,
                           uint64_t to, std::string& out) {
  while (from < to) {
    const auto piece = static_cast<uint32_t>(std::min(to - from, kMiB));
    auto parts = co_await fs.read(h, from, piece);
    if (!expect("read", parts)) co_return false;
    const size_t before = out.size();
    for (const Buffer& b : *parts) out.append(reinterpret_cast<const char*>(b.data()), b.size());
    if (out.size() - before > piece) co_return wrong("read: more than was asked for");
    if (out.size() - before < piece) break;
    from += piece;
  }
  co_return true;
}

Task<bool> Worker::readSome() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  if (!co_await ensureOpen(o)) co_return false;
  uint64_t at = o->content.base() + random_.below(kSpace);
  if (random_.chance(1, 4)) at -= std::min(at, random_.below(kSpace));
  const uint64_t n = 1 + random_.below(kSpace);
  std::string got;
  if (!co_await readAll(*fs_, o->handle, at, at + n, got)) co_return false;
  if (auto diff = difference(got, o->content.read(at, n), at); !diff.empty())
    co_return wrong("read of inode " + std::to_string(o->ino.value) + " at " + std::to_string(at) +
                    "+" + std::to_string(n) + ": " + diff);
  co_return true;
}

Task<bool> Worker::truncate() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  if (links(*o) == 0 && !co_await ensureOpen(o)) co_return false;
  uint64_t size = o->content.base() + random_.below(kSpace);
  if (random_.chance(1, 4)) size = 0;
  if (random_.chance(1, 4)) size = roundDown(size, kBlockSize);
  co_return co_await setSizeOf(o, size);
}

Task<bool> Worker::setSizeOf(ObjectPtr o, uint64_t size) {
  client::AttrChange change;
  change.size = size;
  begin("truncate", *o, size, 0);
  o->content.truncate(size);
  auto attr = co_await fs_->setattr(o->ino, change);
  if (!expect("truncate", attr)) co_return false;
  o->content.truncated(size);
  if (attr->size != size) co_return wrong("truncate: another size");
  co_return true;
}

Task<bool> Worker::allocate() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  if (!co_await ensureOpen(o)) co_return false;
  const uint64_t at = o->content.base() + random_.below(kSpace);
  const uint64_t n = 1 + random_.below(random_.chance(1, 3) ? kSpace : 20'000);
  int mode = 0;
  switch (random_.below(4)) {
    case 0:
      mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      break;
    case 1:
      mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
      break;
    case 2:
      mode = FALLOC_FL_ZERO_RANGE;
      break;
    default:
      break;
  }
  begin(("fallocate " + std::to_string(mode)).c_str(), *o, at, n);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) o->content.extend(at + n);
  if (mode != 0) o->content.zero(at, n);
  co_return expect("fallocate", co_await fs_->fallocate(o->handle, mode, at, n));
}

// copy_file_range between two files, mostly to the same place of a chunk, often as cp(1) does: all
// of it, to a file that was emptied.
Task<bool> Worker::copySome() {
  ObjectPtr from = anyFile(), to = anyFile();
  if (!from || from == to) co_return true;
  if (!co_await ensureOpen(from) || !co_await ensureOpen(to)) co_return false;
  const bool whole = random_.chance(1, 2) && from->content.base() >= to->content.base();
  if (whole && !co_await setSizeOf(to, 0)) co_return false;
  uint64_t at = from->content.base() + (whole ? 0 : random_.below(kSpace));
  uint64_t n = whole ? 2 * kSpace : 1 + random_.below(kSpace);
  if (random_.chance(1, 2)) at = std::max(from->content.base(), roundDown(at, kBlockSize));
  uint64_t target = at;
  if (to->content.base() == 0) target %= kChunkSize;
  if (target < to->content.base() || target + n > to->content.base() + 2 * kSpace)
    target = to->content.base() + random_.below(kSpace);
  const std::string data = from->content.read(at, n);
  begin("copy", *to, target, data.size());
  if (!data.empty()) to->content.write(target, data);
  for (uint64_t done = 0; done < n;) {
    auto copied =
        co_await fs_->copyRange(from->handle, at + done, to->handle, target + done, n - done);
    if (!expect("copy", copied)) co_return false;
    if (*copied == 0 && done != data.size())
      co_return wrong("copy: " + std::to_string(done) + " bytes, expected " +
                      std::to_string(data.size()));
    if (*copied == 0) break;
    done += *copied;
  }
  if (to->direct && !data.empty()) to->content.written(target, data);
  co_return true;
}

Task<bool> Worker::fsync() {
  ObjectPtr o = anyFile();
  if (!o) co_return true;
  if (!co_await ensureOpen(o)) co_return false;
  begin("fsync", *o, 0, 0);
  if (!expect("fsync", co_await fs_->fsync(o->handle))) co_return false;
  o->content.synced();
  co_return true;
}

// ---- With others ----

// What was done here, closed or not, is what is seen there.
Task<bool> Worker::lookAsOther() {
  ObjectPtr o = anyFile();
  if (!o || links(*o) == 0) co_return true;
  auto attr = co_await other_->getattr(o->ino);
  if (!expect("getattr on the other mount", attr)) co_return false;
  if (attr->size != o->content.size() || attr->nlink != links(*o))
    co_return wrong("getattr on the other mount: size " + std::to_string(attr->size) + ", nlink " +
                    std::to_string(attr->nlink) + "; expected " +
                    std::to_string(o->content.size()) + ", " + std::to_string(links(*o)));
  auto opened = co_await other_->open(o->ino, O_RDONLY);
  if (!expect("open on the other mount", opened)) co_return false;
  std::string got;
  const uint64_t from = o->content.base();
  if (!co_await readAll(*other_, opened->handle, from, o->content.size() + kMiB, got))
    co_return false;
  if (auto diff = difference(got, o->content.read(from, UINT64_MAX - from), from); !diff.empty())
    co_return wrong("read of inode " + std::to_string(o->ino.value) +
                    " on the other mount: " + diff);
  co_await other_->release(opened->handle);
  co_return true;
}

// mkdir(2) as a lock: exactly one of all workers has it.
Task<bool> Worker::lockStep() {
  auto made = co_await fs_->mkdir(kRootInode, kLock, 0755, {});
  if (!made && made.error().code == Errc::kExists) co_return true;
  if (!expect("mkdir of the lock", made)) co_return false;
  if (++shared_.lockHolders != 1) co_return wrong("two hold the lock");
  co_await pauseFor(1ms * random_.below(50));
  --shared_.lockHolders;
  co_return expect("rmdir of the lock", co_await fs_->rmdir(kRootInode, kLock));
}

}  // namespace cairn::sim::test
