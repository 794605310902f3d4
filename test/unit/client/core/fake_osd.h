// OSDs in memory. All of them share one store, as if every copy were in step, so that a test may
// move a primary by changing the map alone. Checks the epoch and the checksums that clients send.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <vector>

#include "common/schema/osd.capnp.h"
#include "test/unit/client/core/fake_mds.h"

namespace cairn::client::test {

struct FakeStorage {
  std::map<uint64_t, std::map<uint32_t, std::vector<uint8_t>>> chunks;  // block -> bytes
  std::set<uint64_t> gone;                                              // removed by the MDS
  uint64_t bytesInFlight = 0, maxBytesInFlight = 0;                     // of writes
  uint64_t reads = 0, readBytes = 0;

  void write(uint64_t chunk, uint32_t offset, Bytes bytes);
  void zero(uint64_t chunk, uint32_t offset, uint32_t length);
  void clone(uint64_t source, uint32_t from, uint64_t target, uint32_t at, uint32_t length);
  std::vector<uint8_t> read(uint64_t chunk, uint32_t offset, uint32_t length) const;
  [[nodiscard]] size_t blocks() const;
};

class FakeOsd final : public RpcHandler {
 public:
  // All outlive it. Writes wait until `writesMayGo` is set.
  FakeOsd(Reactor& reactor, OsdId id, const ClusterMap& map, FakeStorage& storage, Events& events,
          Event& writesMayGo)
      : reactor_(reactor),
        id_(id),
        map_(map),
        storage_(storage),
        events_(events),
        writesMayGo_(writesMayGo) {}

  Identity identity() override { return {schema::Hello::Role::OSD, kCluster, id_.value}; }
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override;

  std::function<Fault(schema::OsdRequest::Reader)> fault;
  std::function<Errc(schema::OsdRequest::Reader)> refuse;  // a final answer
  std::function<Duration()> delay;
  bool nearlyFull = false;     // it says so
  int damageReads = 0;         // so many answers are damaged on the way
  uint64_t clientSession = 0;  // whom the last request came from

 private:
  Result<OutMessage> answer(schema::OsdRequest::Reader r, const InMessage& message);
  Reactor& reactor_;
  const OsdId id_;
  const ClusterMap& map_;
  FakeStorage& storage_;
  Events& events_;
  Event& writesMayGo_;
};

}  // namespace cairn::client::test
