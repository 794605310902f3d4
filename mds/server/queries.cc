#include "mds/server/queries.h"

#include <algorithm>

#include "mds/server/admission.h"

namespace cairn::mds {
namespace {

constexpr uint32_t kChunksWithEntry = 16;

std::string_view view(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}
kj::ArrayPtr<const kj::byte> asData(std::string_view text) {
  return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}

void writeChunks(const std::vector<Chunk>& chunks, capnp::List<schema::ChunkRef>::Builder list) {
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    list[i].setIndex(chunks[i].index);
    list[i].setChunk(chunks[i].id.value);
    list[i].setPool(chunks[i].pool.value);
  }
}

OutMessage dataReply(std::string_view bytes) {
  OutMessage out;
  out.body<schema::MdsReply>().setData(asData(bytes));
  return out;
}

// What one entry takes in a reply, about.
size_t entryBytes(const Dentry& entry, bool plus) {
  constexpr size_t kEntry = 48, kAttr = 152;
  return kEntry + roundUp(entry.name.size(), 8) + (plus ? kAttr : 0);
}

// How many of the entries fit a reply. Entries that share a cookie stay together: the next request
// goes on after the cookie of the last.
size_t fitting(const std::vector<Dentry>& entries, bool plus) {
  size_t bytes = 0, n = 0;
  while (n < entries.size() && bytes + entryBytes(entries[n], plus) <= kMaxReplyBytes)
    bytes += entryBytes(entries[n++], plus);
  if (n == entries.size()) return n;
  while (n > 0 && entries[n - 1].cookie == entries[n].cookie) --n;
  return n > 0 ? n : entries.size();
}

}  // namespace

Result<OutMessage> Queries::lookup(InodeId parent, const Result<Inode>& found, bool leases,
                                   Grants& grants) {
  if (!found && (found.error().code != Errc::kNotFound || !leases)) return fail(found.error());
  OutMessage out;
  auto reply = out.body<schema::MdsReply>();
  if (found)
    grants.attr(*found, reply.initEntry().initAttr());
  else
    reply.setNone();
  reply.setDirLease(grants.directory(parent));
  return out;
}

OutMessage Queries::attr(const Inode& inode, Grants& grants) {
  OutMessage out;
  grants.attr(inode, out.body<schema::MdsReply>().initAttr());
  return out;
}

Result<OutMessage> Queries::readdir(schema::Readdir::Reader args, SessionId session, bool leases,
                                    Grants& grants) {
  const InodeId dir{args.getIno()};
  const size_t limit = std::clamp<size_t>(args.getLimit(), 1, kMaxReaddirEntries);
  auto entries = state_.readdir(dir, args.getCookie(), limit);
  TRY(entries);
  bool end = entries->empty();
  const size_t n = fitting(*entries, args.getPlus());
  if (!end && n == entries->size() && n < limit) {
    // Spares the caller a request that finds nothing.
    auto more = state_.readdir(dir, entries->back().cookie, 1);
    TRY(more);
    end = more->empty();
  }
  entries->resize(n);
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initReaddir();
  reply.setEnd(end);
  auto list = reply.initEntries(static_cast<uint32_t>(n));
  for (uint32_t i = 0; i < n; ++i) {
    const Dentry& entry = (*entries)[i];
    list[i].setName(asData(entry.name));
    list[i].setIno(entry.ino.value);
    list[i].setType(entry.type);
    list[i].setCookie(entry.cookie);
    if (!args.getPlus()) continue;
    auto inode = state_.inode(entry.ino);
    TRY(inode);
    if (leases && leases_.behind(session, *inode)) continue;
    grants.attr(*inode, list[i].initAttr());
  }
  out.body<schema::MdsReply>().setDirLease(grants.directory(dir));
  return out;
}

Result<OutMessage> Queries::readlink(const Inode& inode) {
  if (!inode.isSymlink()) return fail(Errc::kInvalid, "not a symbolic link");
  return dataReply(inode.target);
}

Result<OutMessage> Queries::getxattr(schema::XattrName::Reader args) {
  auto value = state_.getxattr(InodeId{args.getIno()}, view(args.getName()));
  TRY(value);
  return dataReply(*value);
}

Result<OutMessage> Queries::listxattr(InodeId ino) {
  auto names = state_.listxattr(ino);
  TRY(names);
  std::string all;
  for (const auto& name : *names) {
    all += name;
    all += '\0';
  }
  return dataReply(all);
}

Result<OutMessage> Queries::chunks(schema::Chunks::Reader args) {
  auto chunks = state_.chunks(InodeId{args.getIno()}, args.getFirst(), args.getCount());
  TRY(chunks);
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initChunks();
  writeChunks(*chunks, reply.initChunks(static_cast<uint32_t>(chunks->size())));
  return out;
}

Result<OutMessage> Queries::chunkList(schema::ChunkListPlace::Reader after) {
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initChunkList();
  reply.setBelow(state_.nextChunk().value);
  auto next = reply.initNext();
  if (!after.getGarbage()) {
    auto chunks = state_.fileChunks(InodeId{after.getIno()}, after.getIndex(), kChunksListed);
    TRY(chunks);
    auto list = reply.initChunks(static_cast<uint32_t>(chunks->size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      const auto& [ino, chunk] = (*chunks)[i];
      list[i].setIno(ino.value);
      list[i].setIndex(chunk.index);
      list[i].setChunk(chunk.id.value);
      list[i].setPool(chunk.pool.value);
    }
    next.setGarbage(list.size() < kChunksListed);
    if (!chunks->empty()) {
      next.setIno(chunks->back().ino.value);
      next.setIndex(chunks->back().chunk.index);
    }
    return out;
  }
  auto garbage = state_.garbage(after.getPosition(), kChunksListed);
  TRY(garbage);
  auto list = reply.initChunks(static_cast<uint32_t>(garbage->size()));
  for (uint32_t i = 0; i < list.size(); ++i) {
    list[i].setChunk((*garbage)[i].chunk.value);
    list[i].setPool((*garbage)[i].pool.value);
  }
  next.setGarbage(true);
  next.setPosition(garbage->empty() ? after.getPosition() : garbage->back().id);
  reply.setEnd(list.size() < kChunksListed);
  return out;
}

Result<OutMessage> Queries::entry(const Inode& inode, Grants& grants, LeaseMode wanted,
                                  const Leases::Claim* claim) {
  OutMessage out;
  TRY(writeEntry(out.body<schema::MdsReply>().initEntry(), inode, grants, wanted, claim));
  return out;
}

Result<void> Queries::writeEntry(schema::Entry::Builder entry, const Inode& inode, Grants& grants,
                                 LeaseMode wanted, const Leases::Claim* claim) {
  grants.attr(inode, entry.initAttr(), wanted, claim);
  if (!inode.isRegular() || inode.chunkCount == 0) return {};
  auto chunks = state_.chunks(inode.ino, 0, kChunksWithEntry);
  TRY(chunks);
  writeChunks(*chunks, entry.initChunks(static_cast<uint32_t>(chunks->size())));
  return {};
}

Result<Inode> Queries::resolve(std::string_view path) {
  const std::string whole(path);
  if (!path.starts_with('/')) return fail(Errc::kInvalid, whole + ": a path begins with /");
  auto inode = state_.inode(kRootInode);
  TRY(inode);
  while (!path.empty()) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    const auto name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    // A trailing slash asks for a directory, like a component behind it.
    if (!name.empty() || whole.ends_with('/')) {
      if (!inode->isDirectory())
        return fail(Errc::kNotDirectory, whole + ": a part of it is not a directory");
    }
    if (name.empty()) break;
    if (name.size() > kMaxNameBytes)
      return fail(Errc::kNameTooLong, whole + ": a name is too long");
    inode = state_.lookup(inode->ino, name);
    if (!inode && inode.error().code == Errc::kNotFound)
      return fail(Errc::kNotFound, whole + ": there is no " + std::string(name));
    TRY(inode);
  }
  return inode;
}

}  // namespace cairn::mds
