// A mount that takes leases and keeps the contract (common/schema/LEASES.md): it notes what replies
// grant, answers recalls, reclaims over every new connection, and sends keepalives.
#pragma once

#include "test/unit/mds/server/fixture.h"

namespace cairn::mds::test {

class LeaseClient : public Client {
 public:
  LeaseClient(sim::SimWorld& world, const std::string& host);
  ~LeaseClient() override;

  Got openSession();
  // From now on nothing is heard of it: no keepalives, no answers, no new connection.
  void die();

  Got lease(InodeId ino, bool write);
  Slot startLease(InodeId ino, bool write);
  Got openFor(InodeId ino, bool write);
  Got readdirPlus(InodeId dir);
  // Gives back what it holds, under the largest serial it has seen.
  Got giveBack(InodeId ino, bool keepRead = false);
  Got giveBackAs(InodeId ino, uint64_t serial, bool keepRead = false);

  struct Recalled {
    InodeId ino;
    uint64_t serial;
    bool toRead;
  };
  std::vector<Recalled> recalls;
  // While it is unset, recalls are noted and not answered.
  bool answers = true;
  // What it believes to hold, under which serial.
  struct Held {
    LeaseMode mode = LeaseMode::kNone;
    uint64_t serial = 0;
    // Attr.changeVersion, once it was told under this lease.
    std::optional<uint64_t> version;
    // Directories: names that were looked up; zero: not there.
    std::map<std::string, InodeId> names;
  };
  std::map<InodeId, Held> held;
  [[nodiscard]] LeaseMode mode(InodeId ino) const {
    auto it = held.find(ino);
    return it == held.end() ? LeaseMode::kNone : it->second.mode;
  }
  std::set<InodeId> opens;  // for the reclaim
  uint64_t barrier = 0;     // the largest seen
  size_t reclaims = 0;
  std::vector<InodeId> readByOthers;  // as it was told

 protected:
  // While something uses a lease it is not given back.
  void uses(InodeId ino, int more) { uses_[ino] += more; }
  void onRecall(schema::Recall::Reader recall) override;
  void onAccessed(capnp::List<uint64_t>::Reader inodes) override {
    for (uint64_t ino : inodes) readByOthers.emplace_back(ino);
  }
  void onAnswer(schema::MdsRequest::Reader request, const Got& got) override;
  Task<Result<void>> onConnect(RpcClient& rpc) override;
  virtual void addToReclaim(schema::Reclaim::Builder) {}

 private:
  void granted(InodeId ino, LeaseMode mode, uint64_t serial);
  void noteAttr(schema::Attr::Reader attr, uint64_t serial);
  Task<void> answer(Recalled recall);
  Task<void> keepAlive(std::shared_ptr<Event> stop);
  std::map<InodeId, int> uses_;
  std::shared_ptr<Event> stop_;
  bool dead_ = false;
};

}  // namespace cairn::mds::test
