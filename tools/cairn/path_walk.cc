#include "tools/cairn/path_walk.h"

#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <deque>
#include <fstream>
#include <map>
#include <sstream>

namespace cairn::tools {

namespace {

using Names = std::deque<std::string>;
constexpr int kMaxLinks = 40;  // as the kernel follows
constexpr uint64_t kRoot = 1;

void putInFront(Names& names, const std::string& path) {
  Names parts;
  std::istringstream in(path);
  for (std::string name; std::getline(in, name, '/');)
    if (!name.empty() && name != ".") parts.push_back(name);
  names.insert(names.begin(), parts.begin(), parts.end());
}

std::string parentOf(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

// Fields of /proc/PID/mountinfo write blanks and backslashes as three octal digits.
std::string unescaped(const std::string& field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      out += static_cast<char>(std::stoi(field.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += field[i];
    }
  }
  return out;
}

struct CairnMount {
  std::string root, source;  // root: what of the filesystem is seen there (bind mounts)
};

std::map<std::string, CairnMount> cairnMounts() {
  std::map<std::string, CairnMount> mounts;
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string id, parent, dev, root, point, word, type, source;
    fields >> id >> parent >> dev >> root >> point;
    while (fields >> word && word != "-") {
    }
    fields >> type >> source;
    // A later mount on the same point hides the earlier one.
    if (type == "fuse.cairn")
      mounts[unescaped(point)] = {unescaped(root), unescaped(source)};
    else
      mounts.erase(unescaped(point));
  }
  return mounts;
}

WalkedFile fileOf(schema::Attr::Reader a) {
  return {InodeId(a.getIno()), PoolId(a.getPool()), a.getMode(), a.getChunkCount(), a.getSize()};
}

Task<Result<WalkedFile>> attributes(MdsConnection& connection, InodeId ino) {
  auto reply =
      co_await connection.ask([ino](schema::MdsRequest::Builder b) { b.setGetattr(ino.value); });
  CO_TRY(reply);
  co_return fileOf(reply->body<schema::MdsReply>().getAttr());
}

// A lookup of a file that is being written waits until its writer gives it back, which may be the
// very thing that hangs. A listing answers with what the MDS knows.
Task<Result<WalkedFile>> findName(MdsConnection& connection, InodeId dir, const std::string& name) {
  constexpr uint32_t kPage = 1024;
  uint64_t cookie = 0;
  for (bool end = false; !end;) {
    auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
      auto r = b.initReaddir();
      r.setIno(dir.value);
      r.setCookie(cookie);
      r.setLimit(kPage);
      r.setPlus(true);
    });
    CO_TRY(reply);
    auto page = reply->body<schema::MdsReply>().getReaddir();
    for (auto e : page.getEntries()) {
      cookie = e.getCookie();
      if (std::string_view(e.getName().asChars().begin(), e.getName().size()) == name)
        co_return fileOf(e.getAttr());
    }
    end = page.getEnd() || page.getEntries().size() == 0;
  }
  co_return fail(Errc::kNotFound, name + ": there is no such name");
}

Task<Result<std::string>> linkTarget(MdsConnection& connection, InodeId ino) {
  auto reply =
      co_await connection.ask([ino](schema::MdsRequest::Builder b) { b.setReadlink(ino.value); });
  CO_TRY(reply);
  auto data = reply->body<schema::MdsReply>().getData();
  co_return std::string(data.asChars().begin(), data.size());
}

std::string joined(std::string path, const Names& names) {
  for (const auto& name : names) path += "/" + name;
  return path;
}

}  // namespace

Result<MountEntry> enterMount(const std::string& path) {
  const auto mounts = cairnMounts();
  Names names;
  putInFront(names, path);
  if (!path.starts_with('/')) {
    char here[PATH_MAX];
    if (::getcwd(here, sizeof here) == nullptr) return fail(errnoError(errno, path));
    putInFront(names, here);
  }
  std::string at = "/";
  int links = 0;
  while (true) {
    if (auto m = mounts.find(at); m != mounts.end()) {
      auto servers = parseEndpoints(m->second.source);
      TRY(servers);
      putInFront(names, m->second.root);
      return MountEntry{at, std::move(*servers), {names.begin(), names.end()}};
    }
    if (names.empty()) break;
    const std::string name = names.front();
    names.pop_front();
    if (name == "..") {
      at = parentOf(at);
      continue;
    }
    const std::string next = (at == "/" ? "" : at) + "/" + name;
    char target[PATH_MAX];
    // Nothing is asked of a mount point, whose filesystem would have to answer.
    if (mounts.contains(next)) {
      at = next;
      continue;
    }
    const ssize_t n = ::readlink(next.c_str(), target, sizeof target);
    if (n < 0 && errno != EINVAL) return fail(errnoError(errno, next));
    if (n < 0) {
      at = next;
      continue;
    }
    if (++links > kMaxLinks) return fail(Errc::kLoop, path + ": too many symbolic links");
    const std::string link(target, static_cast<size_t>(n));
    putInFront(names, link);
    if (link.starts_with('/')) at = "/";
  }
  return fail(Errc::kInvalid, path + " does not lie on a mounted Cairn filesystem");
}

Task<Result<Walked>> walk(MdsConnection& connection, MountEntry entry) {
  Names names(entry.rest.begin(), entry.rest.end());
  auto root = co_await attributes(connection, InodeId(kRoot));
  CO_TRY(root);
  WalkedFile at = *root;
  int links = 0;
  while (!names.empty()) {
    const std::string name = names.front();
    names.pop_front();
    if (name == ".." && at.ino.value == kRoot)
      co_return Walked{{}, joined(parentOf(entry.point), names)};
    if (!S_ISDIR(at.mode))
      co_return fail(Errc::kNotDirectory, name + ": what is above it is not a directory");
    Result<WalkedFile> next = at;
    if (names.empty() && name != "..") {
      next = co_await findName(connection, at.ino, name);
    } else {
      auto reply = co_await connection.ask([&](schema::MdsRequest::Builder b) {
        auto l = b.initLookup();
        l.setParent(at.ino.value);
        l.setName(capnp::Data::Reader(reinterpret_cast<const kj::byte*>(name.data()), name.size()));
      });
      CO_TRY(reply);
      next = fileOf(reply->body<schema::MdsReply>().getEntry().getAttr());
    }
    CO_TRY(next);
    if (!S_ISLNK(next->mode)) {
      at = *next;
      continue;
    }
    if (++links > kMaxLinks) co_return fail(Errc::kLoop, name + ": too many symbolic links");
    auto target = co_await linkTarget(connection, next->ino);
    CO_TRY(target);
    if (target->starts_with('/')) co_return Walked{{}, joined(*target, names)};
    putInFront(names, *target);
  }
  co_return Walked{at, {}};
}

}  // namespace cairn::tools
