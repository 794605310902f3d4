// Client and server over a simulated network.
#include "common/wire/rpc.h"

#include <doctest/doctest.h>

#include "common/schema/osd.capnp.h"
#include "common/sim/sim_world.h"

using namespace cairn;
using namespace cairn::sim;

namespace {

// Answers a removal with as many hashes as it names chunks, twice.
class Doubler final : public RpcHandler {
 public:
  Identity identity() override { return {schema::Hello::Role::OSD, {}, 1}; }
  Task<Result<OutMessage>> handle(const InMessage& request, RpcPeer& peer) override {
    (void)peer;
    ++handled;
    OutMessage answer;
    const auto chunks = request.body<schema::OsdRequest>().getRemove().getChunks();
    answer.body<schema::OsdRequest>().initRemove().initChunks(2 * chunks.size());
    co_return answer;
  }
  size_t handled = 0;
};

OutMessage removal(uint32_t chunks) {
  OutMessage m;
  m.body<schema::OsdRequest>().initRemove().initChunks(chunks);
  return m;
}

}  // namespace

TEST_CASE("what is beyond the limits fails by itself: the connection and its other calls go on") {
  SimWorld world(1);
  SimNode& here = world.addNode("here");
  SimNode& there = world.addNode("there");
  Env hereEnv = here.env(), thereEnv = there.env();
  Doubler doubler;
  RpcServer server(thereEnv, doubler);
  REQUIRE(server.start({"0.0.0.0", 7000}));
  RpcClient::Options options;
  options.to = {"there", 7000};
  RpcClient client(hereEnv, options);
  const auto call = [&](uint32_t chunks) {
    return *world.await(here, client.call(removal(chunks), 5s));
  };

  REQUIRE(call(1));
  auto tooLong = call(200'000);
  REQUIRE_FALSE(tooLong);
  CHECK(tooLong.error().code == Errc::kInvalid);
  CHECK(doubler.handled == 1);
  auto tooLongAnswer = call(100'000);
  REQUIRE_FALSE(tooLongAnswer);
  CHECK(tooLongAnswer.error().code == Errc::kInvalid);
  CHECK(doubler.handled == 2);
  auto fits = call(60'000);
  REQUIRE(fits);
  CHECK(fits->body<schema::OsdRequest>().getRemove().getChunks().size() == 120'000);

  world.await(here, client.close());
  world.await(there, server.close());
}
