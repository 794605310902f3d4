// Times of last access: what becomes a command, and who is told (common/schema/LEASES.md).
#include <algorithm>
#include <map>

#include "common/base/access_time.h"
#include "mds/server/server.h"

namespace cairn::mds {

// Nobody's lease is in the way, and nothing is recalled: a file that many read at once after a
// change costs one command, and those who hold leases on it one message.
Task<Result<OutMessage>> Server::accessed(schema::MdsRequest::Reader request) {
  const SessionId session{request.getSession()};
  auto asked = request.getMutate().getAccessed();
  const int64_t now = env_.reactor.wallNow();
  std::vector<schema::Accessed::Access::Reader> due;
  for (auto access : asked.getAccesses()) {
    auto inode = state_.inode(InodeId{access.getIno()});
    if (!inode && inode.error().code == Errc::kStale) continue;
    CO_TRY(inode);
    if (accessDue(inode->atimeNs, inode->mtimeNs, inode->ctimeNs, std::min(access.getTimeNs(), now),
                  asked.getAlways()))
      due.push_back(access);
  }
  if (!due.empty()) {
    Draft draft(request.getMutate().totalSize().wordCount);
    auto command = draft.command();
    command.setSession(session.value);
    command.setSeq(request.getSeq());
    command.setAckedBelow(request.getAckedBelow());
    auto accessed = command.getMutation().initAccessed();
    accessed.setAlways(asked.getAlways());
    auto list = accessed.initAccesses(static_cast<uint32_t>(due.size()));
    for (uint32_t i = 0; i < list.size(); ++i) {
      list[i].setIno(due[i].getIno());
      list[i].setTimeNs(due[i].getTimeNs());
    }
    CO_TRY(co_await proposer_.propose(std::move(draft)));
  }

  std::map<SessionId, std::vector<InodeId>> others;
  for (auto access : due)
    for (SessionId holder : leases_.table().holders(InodeId{access.getIno()}))
      if (holder != session) others[holder].emplace_back(access.getIno());
  for (const auto& [holder, inodes] : others) pushAccessed(holder, inodes);

  std::vector<InodeId> different;
  for (auto access : asked.getAccesses()) {
    auto inode = state_.inode(InodeId{access.getIno()});
    if (!inode || inode->atimeNs != access.getTimeNs()) different.emplace_back(access.getIno());
  }
  OutMessage out;
  auto reply = out.body<schema::MdsReply>().initAccessed(static_cast<uint32_t>(different.size()));
  for (uint32_t i = 0; i < reply.size(); ++i) reply.set(i, different[i].value);
  co_return out;
}

// A session that is not connected doubts what it knows when it is again.
void Server::pushAccessed(SessionId session, const std::vector<InodeId>& inodes) {
  auto to = peerOf_.find(session);
  if (to == peerOf_.end()) return;
  OutMessage push;
  auto list = push.body<schema::MdsPush>().initAccessed(static_cast<uint32_t>(inodes.size()));
  for (uint32_t i = 0; i < list.size(); ++i) list.set(i, inodes[i].value);
  to->second->push(std::move(push));
}

// Whoever reads a file knows its attributes; of what else is read they come with the answer.
void Server::addTimes(Result<OutMessage>& answer, InodeId ino) {
  if (!answer) return;
  auto inode = state_.inode(ino);
  if (!inode) return;
  auto times = answer->body<schema::MdsReply>().initTimes();
  times.setAtimeNs(inode->atimeNs);
  times.setMtimeNs(inode->mtimeNs);
  times.setCtimeNs(inode->ctimeNs);
}

}  // namespace cairn::mds
