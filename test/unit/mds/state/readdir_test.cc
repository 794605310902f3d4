#include "test/unit/mds/state/fixture.h"

#include <set>

#include "mds/state/keys.h"

using namespace cairn;
using namespace cairn::mds;
using namespace cairn::mds::statetest;

namespace {

uint64_t poorCookie(std::string_view name) {
  return 3 + name.size() % 7;
}

// All entries, read in steps of `limit`.
std::vector<Dentry> list(Mds& mds, InodeId dir, size_t limit) {
  std::vector<Dentry> out;
  for (uint64_t cookie = 0;;) {
    auto part = mds->readdir(dir, cookie, limit);
    REQUIRE(part.has_value());
    if (part->empty()) return out;
    cookie = part->back().cookie;
    out.insert(out.end(), part->begin(), part->end());
  }
}

}  // namespace

TEST_CASE("readdir: every entry once, whatever the step, also where names collide") {
  for (bool collide : {false, true}) {
    CAPTURE(collide);
    Mds mds(3, {.cookieOf = collide ? poorCookie : nullptr});
    auto d = mds.dir("d");
    std::set<std::string> expected{".", ".."};
    for (int i = 1; i <= 40; ++i) {
      std::string name(static_cast<size_t>(i), 'x');
      mds.file(name, d);
      expected.insert(name);
    }
    for (size_t limit : {1, 2, 3, 5, 17, 100}) {
      CAPTURE(limit);
      auto entries = list(mds, d, limit);
      CHECK(entries.size() == expected.size());
      std::set<std::string> names;
      for (auto& e : entries) names.insert(e.name);
      CHECK(names == expected);
      CHECK(std::ranges::is_sorted(entries, {}, &Dentry::cookie));
    }
    CHECK(mds->readdir(d, 0, 1)->size() == 1);
  }
}

TEST_CASE("readdir: the dots come first and say where they lead") {
  Mds mds;
  auto d = mds.dir("d");
  auto e = mds.dir("e", d);
  auto entries = *mds->readdir(e, 0, 10);
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == ".");
  CHECK(entries[0].ino == e);
  CHECK(entries[0].cookie == 1);
  CHECK(entries[1].name == "..");
  CHECK(entries[1].ino == d);
  CHECK(entries[1].cookie == 2);
  CHECK(mds->readdir(e, 1, 10)->size() == 1);
  CHECK(mds->readdir(e, 2, 10)->empty());
  CHECK(mds->readdir(d, 2, 10)->size() == 1);
  CHECK(mds->readdir(d, UINT64_MAX, 10)->empty());
  CHECK(mds->readdir(d, 0, 0)->empty());
  CHECK(mds->readdir(mds.file("f"), 0, 10).error().code == Errc::kNotDirectory);
  CHECK(mds->readdir(InodeId(99), 0, 10).error().code == Errc::kStale);
}

TEST_CASE("readdir: changes in between neither hide nor repeat what stays") {
  Mds mds;
  auto d = mds.dir("d");
  for (int i = 0; i < 300; ++i) mds.file("stay" + std::to_string(i), d);
  for (int i = 0; i < 300; ++i) mds.file("go" + std::to_string(i), d);
  std::multiset<std::string> seen;
  int step = 0;
  for (uint64_t cookie = 0;; ++step) {
    auto part = *mds->readdir(d, cookie, 10);
    if (part.empty()) break;
    cookie = part.back().cookie;
    for (auto& e : part) seen.insert(e.name);
    for (int i = step * 5; i < step * 5 + 5 && i < 300; ++i)
      mds.remove(d, "go" + std::to_string(i), false);
    mds.file("new" + std::to_string(step), d);
  }
  for (int i = 0; i < 300; ++i) CHECK(seen.count("stay" + std::to_string(i)) == 1);
  for (auto& name : seen) CHECK(seen.count(name) == 1);
}

TEST_CASE("cookies: positive as a signed number, never one of the reserved") {
  for (int i = 0; i < 10000; ++i) {
    auto cookie = nameCookie("name" + std::to_string(i));
    CHECK(cookie > 2);
    CHECK(cookie <= static_cast<uint64_t>(INT64_MAX));
  }
  // What is stored depends on it: it may never change. XXH3-64 of "a", shifted.
  CHECK(nameCookie("a") == 0xe6c632b61e964e1full >> 1);
}
