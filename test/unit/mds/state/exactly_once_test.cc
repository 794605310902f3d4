#include "test/unit/mds/state/fixture.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

TEST_CASE("exactly once: a repeated mutation gets the first answer and does nothing") {
  Mds mds;
  auto s = mds.session();
  By by{.session = s, .seq = 1};
  auto first = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}, by);
  CHECK(first.ok());
  auto before = mds.records();
  for (bool restart : {false, true}) {
    if (restart) mds.reopen();
    auto again = mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}, by);
    CHECK(again.ok());
    CHECK(again.applied().reply == first.applied().reply);
    CHECK(mds.records() == before);
  }
  // The name is free again, but the repetition still is one.
  CHECK(mds.unlink("f", {.session = s, .seq = 2}).ok());
  CHECK(mds.make(kRootInode, "f", S_IFREG | 0644, {.open = true}, by).applied().reply ==
        first.applied().reply);
  CHECK(mds.names(kRootInode).empty());
}

TEST_CASE("exactly once: errors are answers too") {
  Mds mds;
  auto s = mds.session();
  By by{.session = s, .seq = 1};
  CHECK(mds.unlink("f", by).code() == Errc::kNotFound);
  mds.file("f");
  CHECK(mds.unlink("f", by).code() == Errc::kNotFound);
  mds.reopen();
  CHECK(mds.unlink("f", by).code() == Errc::kNotFound);
  CHECK(mds.names(kRootInode).size() == 1);
}

TEST_CASE(
    "exactly once: sessions do not share numbers; number 0 and no session are not protected") {
  Mds mds;
  auto s = mds.session(), t = mds.session();
  CHECK(mds.make(kRootInode, "a", S_IFREG, {}, {.session = s, .seq = 1}).ok());
  CHECK(mds.make(kRootInode, "b", S_IFREG, {}, {.session = t, .seq = 1}).ok());
  CHECK(mds.make(kRootInode, "c", S_IFREG, {}, {.session = s}).ok());
  CHECK(mds.make(kRootInode, "c", S_IFREG, {}, {.session = s}).code() == Errc::kExists);
  CHECK(mds.make(kRootInode, "d", S_IFREG, {}, {.seq = 1}).ok());
  CHECK(mds.make(kRootInode, "d", S_IFREG, {}, {.seq = 1}).code() == Errc::kExists);
  CHECK(mds.names(kRootInode).size() == 4);
}

TEST_CASE(
    "exactly once: acknowledged answers are forgotten, but their mutations never done again") {
  Mds mds;
  auto s = mds.session();
  auto answers = [&] {
    auto records = mds.records();
    size_t n = 0;
    for (size_t at = 0; (at = records.find("\nR", at)) != records.npos; ++at) ++n;
    return n;
  };
  for (uint64_t seq = 1; seq <= 10; ++seq)
    CHECK(mds.make(kRootInode, "f" + std::to_string(seq), S_IFREG, {}, {.session = s, .seq = seq})
              .ok());
  CHECK(answers() == 10);
  CHECK(mds.make(kRootInode, "g", S_IFREG, {}, {.session = s, .seq = 11, .acked = 9}).ok());
  CHECK(answers() == 3);
  for (bool restart : {false, true}) {
    if (restart) mds.reopen();
    CHECK(mds.unlink("f3", {.session = s, .seq = 3}).code() == Errc::kInvalid);
    CHECK(mds.unlink("f9", {.session = s, .seq = 9}).ok());  // the answer of the make
    CHECK(mds.names(kRootInode).size() == 11);
  }
  // An acknowledgement beyond the mutation that carries it is not believed.
  CHECK(mds.unlink("g", {.session = s, .seq = 12, .acked = 1000}).ok());
  CHECK(mds.unlink("f1", {.session = s, .seq = 13}).ok());
  CHECK(mds.unlink("f2", {.session = s, .seq = 12}).ok());
  CHECK(mds.names(kRootInode).size() == 9);
}

TEST_CASE("exactly once: mutations may arrive in any order") {
  Mds mds;
  auto s = mds.session();
  CHECK(mds.make(kRootInode, "b", S_IFREG, {}, {.session = s, .seq = 2, .acked = 1}).ok());
  CHECK(mds.make(kRootInode, "a", S_IFREG, {}, {.session = s, .seq = 1, .acked = 1}).ok());
  CHECK(mds.make(kRootInode, "b", S_IFREG, {}, {.session = s, .seq = 2, .acked = 1}).ok());
  CHECK(mds.names(kRootInode).size() == 2);
}

TEST_CASE("exactly once: an answer that asks for another try is not remembered") {
  Mds mds(0, {}, 0);
  // Before bootstrap there are no sessions, so take the other such answer: too many large
  // truncations of one file. Seventeen of them, each leaving some of its chunks to purge.
  mds.bootstrap(1);
  mds.addOsd(1);
  auto s = mds.session();
  auto f = mds.file("f");
  auto grow = [&](uint32_t from) {
    for (uint32_t i = 0; i < 5; ++i) CHECK(mds.alloc(f, from + i * 1024, 1024).ok());
    CHECK(mds.commit(f, 1ull << 50).ok());
  };
  uint32_t cut = 0;
  for (int i = 0; i < 16; ++i, cut += 8192) {
    grow(cut);
    CHECK(mds.truncate(f, cut * kChunkSize).ok());
  }
  grow(cut);
  By by{.session = s, .seq = 1};
  auto truncate = [&] {
    return mds
        .setattr(
            f,
            [&](auto a) {
              a.setSetSize(true);
              a.setSize(cut * kChunkSize);
            },
            by)
        .code();
  };
  auto before = mds.records();
  CHECK(truncate() == Errc::kBusyTryLater);
  CHECK(mds.records() == before);
  while (!mds.orphans().empty()) REQUIRE(mds.purge(f, 4096).ok());
  CHECK(truncate() == Errc::kOk);
  CHECK(mds.chunks(f).empty());
}

TEST_CASE("exactly once: a session that leaves its answers unacknowledged is slowed down") {
  Mds mds;
  auto s = mds.session();
  // Groups, for speed.
  std::vector<Command> group;
  std::vector<schema::Command::Reader> readers;
  auto chmod = [&](uint64_t seq) {
    group.push_back(command(
        [](auto m) {
          auto a = m.initSetattr();
          a.setIno(1);
          a.setSetMode(true);
          a.setMode(0755);
        },
        {.session = s, .seq = seq, .timeNs = mds.now}));
    readers.push_back(group.back()->getRoot<schema::Command>().asReader());
  };
  for (uint64_t seq = 1; seq <= 65537; ++seq) chmod(seq);
  auto applied = mds->apply(LogIndex(mds->applied().value + 1), readers);
  REQUIRE(applied.has_value());
  CHECK((*applied)[65535].code == Errc::kOk);
  CHECK((*applied)[65536].code == Errc::kBusyTryLater);
  CHECK(mds.endSession(s).ok());
}

TEST_CASE("exactly once: a malformed command is an answer, not the end") {
  Mds mds;
  mds.file("f");
  auto before = mds.records();
  // A remove whose name points outside the message.
  auto message = command(
      [](auto m) {
        auto r = m.initRemove();
        r.setParent(1);
        r.setName(asData("f"));
      },
      {.timeNs = 1});
  auto segment = message->getSegmentsForOutput()[0];
  size_t refused = 0;
  for (size_t w = 0; w < segment.size(); ++w) {
    std::vector<uint64_t> damaged(segment.size());
    memcpy(damaged.data(), segment.begin(), segment.asBytes().size());
    damaged[w] = 0x7d7d7d7d7d7d7d7d;
    kj::ArrayPtr<const capnp::word> flat(reinterpret_cast<const capnp::word*>(damaged.data()),
                                         damaged.size());
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&flat, 1));
    schema::Command::Reader c;
    try {
      c = reader.getRoot<schema::Command>();
    } catch (const kj::Exception&) {
      continue;
    }
    auto applied = mds->apply(LogIndex(mds->applied().value + 1), {&c, 1});
    REQUIRE_MESSAGE(applied.has_value(), applied.error().text());
    refused += (*applied)[0].code == Errc::kBadMessage;
    if ((*applied)[0].code == Errc::kOk) mds.file("f");
  }
  CHECK(refused > 0);
  CHECK(mds.names(kRootInode) == std::vector<std::string>{"f"});
}
