#include "common/wire/frame.h"

#include <doctest/doctest.h>

#include <string>

#include "common/reactor/clock.h"
#include "common/schema/osd.capnp.h"
#include "test/unit/common/wire/byte_stream.h"

using namespace cairn;
using cairn::test::ByteStream;
using cairn::test::runNow;

namespace {

constexpr FrameLimits kLimits{1 << 20, 4 << 20};

std::string framesOf(std::deque<OutMessage> messages) {
  ByteStream out("", 1);
  REQUIRE(runNow(writeFrames(out, messages)));
  return out.written;
}

OutMessage request(uint64_t id, const std::string& payload, BufferPool& pool) {
  OutMessage m;
  m.header().setId(id);
  m.header().setKind(schema::RpcHeader::Kind::REQUEST);
  auto w = m.body<schema::OsdRequest>().initWrite();
  w.setChunk(id * 3);
  w.setLength(static_cast<uint32_t>(payload.size()));
  // In two parts, so that gathering is exercised.
  size_t half = payload.size() / 2;
  auto* p = reinterpret_cast<const uint8_t*>(payload.data());
  m.addPayload(pool.copyOf({p, half}));
  m.addPayload(pool.copyOf({p + half, payload.size() - half}));
  return m;
}

std::string randomBytes(SeededRandom& random, size_t n) {
  std::string s(n, '\0');
  for (auto& c : s) c = static_cast<char>(random.next());
  return s;
}

}  // namespace

TEST_CASE("frames arrive whole and in order however the stream is cut") {
  BufferPool pool;
  for (size_t piece : {size_t{1}, size_t{7}, size_t{4096}, size_t{100000}, size_t{1} << 30}) {
    SeededRandom random(piece);
    std::deque<OutMessage> messages;
    std::vector<std::string> payloads;
    for (size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{70001},
                        piece == 1 ? size_t{5000} : size_t{3} << 20}) {
      payloads.push_back(randomBytes(random, size));
      messages.push_back(request(payloads.size(), payloads.back(), pool));
    }
    ByteStream in(framesOf(std::move(messages)), piece);
    FrameReader reader(in, pool, kLimits);
    for (size_t i = 0; i < payloads.size(); ++i) {
      auto m = runNow(reader.next());
      REQUIRE(m);
      CHECK(m->header().getId() == i + 1);
      CHECK(m->body<schema::OsdRequest>().getWrite().getChunk() == 3 * (i + 1));
      CHECK(std::string(reinterpret_cast<char*>(m->payload().data()), m->payload().size()) ==
            payloads[i]);
      if (!m->payload().empty())
        CHECK(reinterpret_cast<uintptr_t>(m->payload().data()) % kBlockSize == 0);
    }
    auto end = runNow(reader.next());
    REQUIRE_FALSE(end);
    CHECK(end.error().code == Errc::kUnavailable);
  }
}

TEST_CASE("a header larger than its first segment is sent as one segment") {
  BufferPool pool;
  OutMessage m;
  m.header().setId(1);
  auto removal = m.body<schema::OsdRequest>().initRemove().initChunks(5000);
  for (unsigned i = 0; i < 5000; ++i) removal.set(i, i * i);
  std::deque<OutMessage> messages;
  messages.push_back(std::move(m));
  ByteStream in(framesOf(std::move(messages)), 1000);
  FrameReader reader(in, pool, kLimits);
  auto got = runNow(reader.next());
  REQUIRE(got);
  auto chunks = got->body<schema::OsdRequest>().getRemove().getChunks();
  REQUIRE(chunks.size() == 5000);
  CHECK(chunks[4999] == 4999ull * 4999);
}

TEST_CASE("a flipped bit anywhere in preamble or header is found") {
  BufferPool pool;
  std::deque<OutMessage> messages;
  messages.push_back(request(42, "", pool));
  std::string good = framesOf(std::move(messages));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    ByteStream in(bad, 64);
    FrameReader reader(in, pool, kLimits);
    CHECK_FALSE(runNow(reader.next()));
  }
}

TEST_CASE("lengths over the limits are refused before any memory is taken") {
  BufferPool pool;
  for (auto [header, payload] :
       {std::pair{0xfffffff8u, 0u}, {8u, 0xffffffffu}, {0u, 0u}, {12u, 0u}}) {
    uint32_t preamble[4] = {0x314e5243, header, payload, 0};
    ByteStream in(
        std::string(reinterpret_cast<char*>(preamble), sizeof preamble) + std::string(64, 'x'), 16);
    FrameReader reader(in, pool, kLimits);
    auto r = runNow(reader.next());
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Errc::kBadMessage);
  }
}

TEST_CASE("random bytes are never a message") {
  BufferPool pool;
  SeededRandom random(99);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = randomBytes(random, random.below(300));
    if (round % 2 == 0 && bytes.size() >= 4) bytes.replace(0, 4, "CRN1");
    ByteStream in(bytes, 1 + random.below(50));
    FrameReader reader(in, pool, kLimits);
    CHECK_FALSE(runNow(reader.next()));
  }
}

TEST_CASE("a header with pointers that leave it is refused") {
  BufferPool pool;
  SeededRandom random(7);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    OutMessage m = request(5, "", pool);
    Bytes flat = m.flatHeader();
    Buffer header = pool.copyOf(flat);
    for (int i = 0; i < 4; ++i)
      header.data()[random.below(header.size())] = static_cast<uint8_t>(random.next());
    auto parsed = InMessage::parse(header, {});
    if (!parsed) {
      ++refused;
      continue;
    }
    // What passed may be read, or says so by an exception: nothing else happens.
    try {
      auto body = parsed->body<schema::OsdRequest>();
      if (body.isWrite()) (void)body.getWrite().getCrcs().size();
    } catch (const kj::Exception&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}
