#include "client/core/inode_state.h"

#include <doctest/doctest.h>

using namespace cairn;
using namespace cairn::client;

namespace {
ServerAttr attr(uint64_t size, uint64_t change, uint64_t data) {
  ServerAttr a;
  a.ino = InodeId{5};
  a.mode = S_IFREG | 0644;
  a.size = size;
  a.changeVersion = change;
  a.dataVersion = data;
  a.mtimeNs = 100;
  a.ctimeNs = 100;
  return a;
}
}  // namespace

TEST_CASE("inode state: an answer that was overtaken by a newer one changes nothing") {
  InodeState s;
  s.learn(attr(10, 5, 2));
  s.learn(attr(3, 4, 1));
  CHECK(s.size(0) == 10);
}

TEST_CASE("inode state: the size counts what is dirty and what is stored but not committed") {
  InodeState s;
  s.learn(attr(10, 1, 1));
  CHECK(s.size(25) == 25);
  s.wrote(500);
  s.stored(25);
  CHECK(s.size(0) == 25);
  CHECK(s.merged(0).mtimeNs == 500);
  CHECK(s.grown());
  auto commit = s.beginCommit();
  CHECK(commit.size == 25);
  CHECK(commit.mtimeNs == 500);
  s.learnOwn(attr(25, 2, 2));
  s.committed(commit);
  CHECK_FALSE(s.uncommitted());
}

TEST_CASE("inode state: bytes that were stored during a commit are committed again") {
  InodeState s;
  s.learn(attr(0, 1, 1));
  s.wrote(500);
  s.stored(100);
  auto commit = s.beginCommit();
  s.wrote(600);
  s.stored(50);  // other readers must learn of these bytes too
  s.learnOwn(attr(100, 2, 2));
  s.committed(commit);
  CHECK(s.uncommitted());
  CHECK(s.beginCommit().mtimeNs == 600);
}

TEST_CASE("inode state: who comes under a lease again sees whether others changed the data") {
  InodeState s;
  s.learn(attr(10, 1, 1));
  s.learnOwn(attr(10, 2, 2));
  CHECK_FALSE(s.takeOver(attr(10, 2, 2)));
  CHECK_FALSE(s.takeOver(attr(10, 3, 2)));  // attributes only
  s.learn(attr(10, 4, 3));  // seen without a lease: cached data is still of version 2
  CHECK(s.takeOver(attr(10, 4, 3)));
  CHECK_FALSE(s.takeOver(attr(10, 4, 3)));
}
