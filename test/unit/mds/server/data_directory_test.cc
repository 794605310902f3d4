#include "mds/server/data_directory.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>

using namespace cairn;
using namespace cairn::mds;
namespace fs = std::filesystem;

namespace {

struct TempDirectory {
  TempDirectory() {
    std::string name = (fs::temp_directory_path() / "cairn-mds-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TempDirectory() { fs::remove_all(path); }
  [[nodiscard]] std::string at(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

void write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

Uuid make(const std::string& path) {
  auto d = DataDirectory::open(path);
  REQUIRE_MESSAGE(d.has_value(), (d ? "" : d.error().text()));
  REQUIRE(d->fresh());
  REQUIRE(d->prepare());
  REQUIRE(d->commit());
  return d->cluster();
}

}  // namespace

TEST_CASE("a directory is made once and found again with its cluster") {
  TempDirectory t;
  const Uuid cluster = make(t.at("a/b/mds"));
  CHECK(cluster);
  auto again = DataDirectory::open(t.at("a/b/mds"));
  REQUIRE(again);
  CHECK_FALSE(again->fresh());
  CHECK(again->cluster() == cluster);
}

TEST_CASE("looking at a directory makes nothing") {
  TempDirectory t;
  auto d = DataDirectory::open(t.at("new"));
  REQUIRE(d);
  CHECK(d->fresh());
  CHECK_FALSE(fs::exists(t.at("new")));
}

TEST_CASE("a start that fails takes back what it made") {
  TempDirectory t;
  {
    auto d = DataDirectory::open(t.at("new"));
    REQUIRE(d->prepare());
    write(t.at("new/log"), "half");
    d->discard();
  }
  CHECK_FALSE(fs::exists(t.at("new")));
  // A directory that was there stays, empty.
  {
    auto d = DataDirectory::open(t.path);
    REQUIRE(d->prepare());
    d->discard();
  }
  CHECK(fs::is_empty(t.path));
}

TEST_CASE("what an interrupted first start left is cleared by the next") {
  TempDirectory t;
  {
    auto d = DataDirectory::open(t.path);
    REQUIRE(d->prepare());
    fs::create_directory(t.at("meta"));
    write(t.at("log"), "half");
  }
  auto d = DataDirectory::open(t.path);
  REQUIRE(d);
  CHECK(d->fresh());
  REQUIRE(d->prepare());
  CHECK_FALSE(fs::exists(t.at("log")));
  CHECK_FALSE(fs::exists(t.at("meta")));
}

TEST_CASE("a directory in use names the process that uses it") {
  TempDirectory t;
  make(t.path);
  auto first = DataDirectory::open(t.path);
  REQUIRE(first);
  auto second = DataDirectory::open(t.path);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kBusy);
  CHECK(second.error().message.find(std::to_string(::getpid())) != std::string::npos);
}

TEST_CASE("of two first starts at once one wins, and the other harms nothing") {
  TempDirectory t;
  auto a = DataDirectory::open(t.at("mds"));
  auto b = DataDirectory::open(t.at("mds"));
  REQUIRE(a->prepare());
  auto second = b->prepare();
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kBusy);
  b->discard();
  CHECK(a->commit());
  CHECK(fs::exists(t.at("mds/cluster")));
  // Also when the first has ended meanwhile.
  auto c = DataDirectory::open(t.at("other"));
  make(t.at("other"));
  CHECK_FALSE(c->prepare());
  c->discard();
  CHECK(DataDirectory::open(t.at("other")));
}

TEST_CASE("another format, something else, or no directory at all is refused with the way out") {
  TempDirectory t;
  make(t.at("mds"));
  SUBCASE("newer") {
    write(t.at("mds/version"), "2\n");
    auto d = DataDirectory::open(t.at("mds"));
    REQUIRE_FALSE(d);
    CHECK(d.error().code == Errc::kVersion);
    CHECK(d.error().message.find("format 2") != std::string::npos);
  }
  SUBCASE("cluster lost") {
    write(t.at("mds/cluster"), "what?\n");
    CHECK(DataDirectory::open(t.at("mds")).error().code == Errc::kCorrupt);
  }
  SUBCASE("something else") {
    write(t.at("photo.jpg"), "...");
    auto d = DataDirectory::open(t.path);
    REQUIRE_FALSE(d);
    CHECK(d.error().code == Errc::kInvalid);
    CHECK_FALSE(fs::exists(t.at("lock")));
  }
  SUBCASE("a file") {
    write(t.at("file"), "...");
    CHECK(DataDirectory::open(t.at("file")).error().code == Errc::kInvalid);
  }
}
