// What a worker finds on a mount, against what its model allows.
#include <fcntl.h>

#include <algorithm>

#include "common/base/buffer.h"
#include "test/sim/worker.h"

namespace cairn::sim::test {

Task<bool> Worker::listNames(client::Filesystem& fs, std::map<std::string, InodeId>& out) {
  uint64_t cookie = 0;
  while (true) {
    const auto limit = static_cast<uint32_t>(1 + random_.below(5));
    auto page = co_await fs.readdir(directory_, cookie, limit, random_.chance(1, 2));
    if (!expect("readdir", page)) co_return false;
    for (const auto& entry : page->entries) {
      cookie = entry.cookie;
      if (entry.name == "." || entry.name == "..") continue;
      if (!out.emplace(entry.name, entry.ino).second)
        co_return wrong("readdir: '" + entry.name + "' twice");
    }
    if (page->end || page->entries.empty()) co_return true;
  }
}

bool Worker::matches(const std::map<std::string, InodeId>& found, const Names& names) const {
  if (found.size() != names.size()) return false;
  for (const auto& [name, o] : names) {
    const auto at = found.find(name);
    if (at == found.end() || (o->ino && at->second != o->ino)) return false;
  }
  return true;
}

Task<void> Worker::verify(Env& env, client::Filesystem& fs) {
  env_ = &env;
  fs_ = other_ = &fs;
  done_ = interrupted_ = false;
  std::map<std::string, InodeId> found;
  if (co_await listNames(fs, found)) {
    if (namesOr_ && !matches(found, names_)) commitNames();
    namesOr_.reset();
    if (!matches(found, names_)) {
      std::string text = "after a crash: the directory is neither as before nor as after;";
      for (const auto& [name, ino] : found) text += " " + name;
      text += "; expected:";
      for (const auto& [name, o] : names_) text += " " + name;
      wrong(text);
    }
  }
  const Names names = names_;
  for (const auto& [name, o] : names) {
    if (!shared_.failure.empty() || interrupted_) break;
    if (!o->ino) o->ino = found[name];
    if (!co_await verifyObject(name, o)) break;
  }
  for (const auto& [name, o] : names) o->handle.reset();
  done_ = true;
}

Task<bool> Worker::verifyObject(const std::string& name, ObjectPtr o) {
  auto attr = co_await fs_->getattr(o->ino);
  if (!expect(("getattr of " + name).c_str(), attr)) co_return false;
  if (o->kind == Kind::kSymlink) {
    auto target = co_await fs_->readlink(o->ino);
    if (!expect("readlink", target)) co_return false;
    co_return *target == o->target || wrong("readlink: another target");
  }
  if (o->kind == Kind::kDirectory) co_return true;
  if (attr->nlink != links(*o))
    co_return wrong(name + ": nlink is " + std::to_string(attr->nlink) + ", names are " +
                    std::to_string(links(*o)));

  Xattrs xattrs;
  auto list = co_await fs_->listxattr(o->ino);
  if (!expect("listxattr", list)) co_return false;
  for (const std::string& key : *list) {
    auto value = co_await fs_->getxattr(o->ino, key);
    if (!expect("getxattr", value)) co_return false;
    xattrs[key] = *value;
  }
  if (xattrs != o->xattrs && !(o->xattrsOr && xattrs == *o->xattrsOr))
    co_return wrong(name + ": not the extended attributes that were set");
  o->xattrs = std::move(xattrs);
  o->xattrsOr.reset();

  auto opened = co_await fs_->open(o->ino, O_RDWR);
  if (!expect("open", opened)) co_return false;
  o->handle = opened->handle;
  o->direct = false;
  std::string hole;
  const uint64_t size = opened->attr.size, base = o->content.base();
  if (!co_await readAll(*fs_, o->handle, 0, std::min({size, base, kMiB}), hole)) co_return false;
  if (hole.find_first_not_of('\0') != std::string::npos)
    co_return wrong(name + ": bytes where nothing was ever written");
  std::string got;
  if (!co_await readAll(*fs_, o->handle, base, std::max(size, base), got)) co_return false;
  const bool uncertain = o->content.uncertain();
  if (auto complaint = o->content.adopt(size, got); !complaint.empty())
    co_return wrong(name + " (inode " + std::to_string(o->ino.value) + "): " + complaint);
  if (uncertain && !co_await settle(o)) co_return false;
  co_return co_await close(o);
}

Task<bool> Worker::setSize(ObjectPtr o, uint64_t size) {
  client::AttrChange change;
  change.size = size;
  co_return expect("truncate", co_await fs_->setattr(o->ino, change));
}

// Bytes whose last write was never acknowledged may differ between replicas until they are written
// again (osd/README.md), and what a dead mount wrote behind an end may lie there still (README.md):
// all is freed and written again.
Task<bool> Worker::settle(ObjectPtr o) {
  const uint64_t base = o->content.base(), size = o->content.size();
  const std::string all = o->content.read(base, UINT64_MAX - base);
  if (!co_await setSize(o, size + 1) || !co_await setSize(o, 0)) co_return false;
  if (!co_await setSize(o, size)) co_return false;
  if (!all.empty() && !expect("rewrite", co_await fs_->write(o->handle, base, buffer(all))))
    co_return false;
  co_return expect("fsync", co_await fs_->fsync(o->handle));
}

}  // namespace cairn::sim::test
