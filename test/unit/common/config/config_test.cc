#include "common/config/config.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

using namespace cairn;

namespace {

constexpr Setting kTable[] = {
    {"box.count", "A number.", Unit::kCount, "3", 1, 7},
    {"box.size", "A size.", Unit::kBytes, "64MiB", 1024, 1024 * 1024 * 1024},
    {"box.age", "A time.", Unit::kDuration, "2s", 1'000'000, 60'000'000'000},
    {"box.flag", "A flag.", Unit::kBool, "true"},
    {"box.name", "A text.", Unit::kText, ""},
    {"box.kind", "A choice.", Unit::kChoice, "red", 0, 0, "red|green|blue"},
    {"box.path", "A path.", Unit::kPath, ""},
    {"box.at", "An address.", Unit::kEndpoint, "127.0.0.1:80"},
    {"box.peers", "Addresses.", Unit::kEndpoints, ""},
};

struct TempDir {
  std::filesystem::path path;
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-config-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string file(const std::string& text, const std::string& name = "cairn.conf") const {
    std::ofstream(path / name, std::ios::binary) << text;
    return (path / name).string();
  }
};

std::string loadError(const std::string& text) {
  TempDir dir;
  const std::string file = dir.file(text);
  auto config = Config::load(kTable, file);
  REQUIRE_FALSE(config.has_value());
  CHECK(config.error().code == Errc::kInvalid);
  std::string message = config.error().message;
  CHECK(message.find('\n') == std::string::npos);  // one line
  if (message.starts_with(file)) message = "FILE" + message.substr(file.size());
  return message;
}

std::string overrideError(const std::string& name, const std::string& value) {
  auto config = Config::load(kTable, std::nullopt, {{name, value}});
  REQUIRE_FALSE(config.has_value());
  return config.error().message;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("defaults hold where nothing is given") {
  auto c = Config::load(kTable, std::nullopt);
  REQUIRE(c.has_value());
  CHECK(c->integer("box.count") == 3);
  CHECK(c->bytes("box.size") == 64 * kMiB);
  CHECK(c->duration("box.age") == 2s);
  CHECK(c->boolean("box.flag"));
  CHECK(c->text("box.kind") == "red");
  CHECK(c->text("box.at") == "127.0.0.1:80");
  CHECK_FALSE(c->isSet("box.name"));
  CHECK(c->text("box.name").empty());
  CHECK(c->require("box.kind").has_value());
  auto missing = c->require("box.path");
  REQUIRE_FALSE(missing.has_value());
  CHECK(has(missing.error().message, "--set box.path="));
}

TEST_CASE("a file overrides defaults and flags override the file") {
  TempDir dir;
  auto file = dir.file(
      "# comment\n[box]\ncount = 5\nsize = 4096\nage = \"10ms\"\nflag = false\nname = \"a b\"\n"
      "kind = 'blue'\npeers = [\"a:1\", \"b:2\"]\n");
  auto c = Config::load(kTable, file, {{"box.count", "6"}, {"box.size", "2KiB"}, {"box.at", ""}});
  REQUIRE_MESSAGE(c.has_value(), c.error().message);
  CHECK(c->integer("box.count") == 6);
  CHECK(c->bytes("box.size") == 2048);
  CHECK(c->duration("box.age") == 10ms);
  CHECK_FALSE(c->boolean("box.flag"));
  CHECK(c->text("box.name") == "a b");
  CHECK(c->text("box.kind") == "blue");
  CHECK(c->text("box.peers") == "a:1,b:2");
  CHECK_FALSE(c->isSet("box.at"));  // an empty text unsets, a default too
}

TEST_CASE("relative paths start at the file that holds them, or at the working directory") {
  TempDir dir;
  auto c = Config::load(kTable, dir.file("box.path = 'data/../store'"));
  REQUIRE(c.has_value());
  CHECK(c->text("box.path") == (dir.path / "store").string());
  c = Config::load(kTable, std::nullopt, {{"box.path", "store"}});
  REQUIRE(c.has_value());
  CHECK(c->text("box.path") == (std::filesystem::current_path() / "store").string());
  c = Config::load(kTable, std::nullopt, {{"box.path", "/store"}});
  REQUIRE(c.has_value());
  CHECK(c->text("box.path") == "/store");
}

TEST_CASE("an unknown key is refused with its place and the nearest known key") {
  CHECK(loadError("[box]\n\n  cuont = 1\n") ==
        "FILE:3:3: box.cuont: unknown setting; did you mean box.count?");
  CHECK(has(loadError("[bx]\ncount = 1\n"),
            "FILE:2:1: bx.count: unknown setting; did you mean box.count?"));
  CHECK(has(loadError("count = 1\n"), "did you mean box.count?"));
  CHECK(has(loadError("[box]\nzebra_crossing = 1\n"), "see cairn.conf(5)"));
  CHECK(has(loadError("[zoo]\n"), "FILE:1"));
  CHECK(has(loadError("[box.count]\nmore = 1\n"), "box.count"));
  CHECK(has(loadError("box = 3\n"), "FILE:1:1: box: unknown setting"));
  CHECK(has(overrideError("box.sice", "1"),
            "command line: box.sice: unknown setting; did you mean box.size?"));
  CHECK(has(overrideError("", "1"), "unknown setting"));
  CHECK(has(overrideError(std::string(100'000, 'x'), "1"), "unknown setting"));
}

TEST_CASE("the first mistake of a file is the one that is reported") {
  CHECK(has(loadError("[box]\nsize = \"1XB\"\ncount = 99\n"), "FILE:2:1: box.size"));
  CHECK(has(loadError("[box]\ncount = 99\nage = \"1XB\"\n"), "FILE:2:1: box.count"));
}

TEST_CASE("a bad unit is refused with the forms that are understood") {
  CHECK(has(loadError("[box]\nsize = \"64MB\"\n"), "box.size = \"64MB\": not a size"));
  CHECK(has(loadError("[box]\nage = 5\n"), "box.age = \"5\": not a time"));
  CHECK(has(loadError("[box]\ncount = \"many\"\n"), "not a whole number; allowed is 1 to 7"));
  CHECK(has(loadError("[box]\nflag = \"yes\"\n"), "not true or false"));
  CHECK(has(loadError("[box]\nkind = \"pink\"\n"), "allowed is red, green, blue"));
  CHECK(has(loadError("[box]\nkind = \"red|green\"\n"), "allowed is"));
  CHECK(has(loadError("[box]\nsize = 1.5\n"), "\"1.5GiB\""));
  CHECK(has(loadError("[box]\nsize = 1979-05-27\n"), "not a text"));
  CHECK(has(loadError("[box]\npeers = [1]\n"), "texts only"));
  CHECK(has(loadError("[box]\npeers = []\n"), "box.peers"));
  CHECK(has(loadError("[box]\nname = \"a\\u0000b\"\n"), "control characters"));
  CHECK(has(loadError("[box]\nat = \"nowhere\"\n"), "box.at = \"nowhere\": "));
}

TEST_CASE("a value out of bounds is refused with the bounds, which themselves are allowed") {
  CHECK(has(loadError("[box]\ncount = 8\n"), "out of bounds; allowed is 1 to 7"));
  CHECK(has(loadError("[box]\ncount = 0\n"), "allowed is 1 to 7"));
  CHECK(has(loadError("[box]\nsize = 1023\n"), "allowed is 1 KiB to 1 GiB"));
  CHECK(has(loadError("[box]\nsize = \"2GiB\"\n"), "allowed is 1 KiB to 1 GiB"));
  CHECK(has(loadError("[box]\nsize = -1\n"), "not a size"));
  CHECK(has(overrideError("box.size", "18446744073709551615"), "out of bounds"));
  CHECK(has(loadError("[box]\nage = \"61s\"\n"), "allowed is 1ms to 1min"));
  for (const char* v : {"1", "7"}) CHECK(Config::load(kTable, std::nullopt, {{"box.count", v}}));
  for (const char* v : {"1 KiB", "1 GiB"})
    CHECK(Config::load(kTable, std::nullopt, {{"box.size", v}}));
}

TEST_CASE("what is not TOML is refused with its place") {
  CHECK(has(loadError("[box]\ncount = \n"), "FILE:2:"));
  CHECK(has(loadError("[box\n"), "FILE:1:"));
  CHECK(has(loadError("[box]\ncount = 1\ncount = 2\n"), "FILE:3:"));
  CHECK(has(loadError(std::string("\xff\xfe\x00garbage", 11)), "FILE:1:"));
  CHECK(has(loadError("a = " + std::string(10'000, '[')), "FILE:1:"));
}

TEST_CASE("a file that cannot be read is named with the reason") {
  TempDir dir;
  auto missing = Config::load(kTable, (dir.path / "none.conf").string());
  REQUIRE_FALSE(missing.has_value());
  CHECK(has(missing.error().message, "none.conf: No such file"));
  CHECK_FALSE(Config::load(kTable, dir.path.string()).has_value());  // a directory
  auto large = Config::load(kTable, dir.file(std::string((1 << 20) + 1, '#')));
  REQUIRE_FALSE(large.has_value());
  CHECK(has(large.error().message, "larger than 1 MiB"));
  CHECK(Config::load(kTable, dir.file("")).has_value());
}

TEST_CASE("one file serves several programs: others' keys are checked and left out") {
  TempDir dir;
  auto file = dir.file("[mds]\nreplicas = 2\n[osd]\nclass = \"hdd\"\n[client]\n");
  auto mds = Config::load(mdsSettings(), file);
  REQUIRE_MESSAGE(mds.has_value(), mds.error().message);
  CHECK(mds->integer("mds.replicas") == 2);
  auto osd = Config::load(osdSettings(), file);
  REQUIRE(osd.has_value());
  CHECK(osd->text("osd.class") == "hdd");
  CHECK_FALSE(Config::load(mdsSettings(), dir.file("[osd]\nclass = \"tape\"\n")).has_value());
}

TEST_CASE("every setting has a name of its own, a described meaning and a valid default") {
  std::set<std::string_view> names;
  for (auto [section, table] :
       {std::pair{"mds.", mdsSettings()}, {"osd.", osdSettings()}, {"client.", clientSettings()}}) {
    auto config = Config::load(table, std::nullopt);  // judges every default
    REQUIRE_MESSAGE(config.has_value(), config.error().message);
    for (const Setting& s : table) {
      CAPTURE(s.name);
      CHECK(names.insert(s.name).second);
      CHECK(s.name.starts_with(section));
      CHECK(s.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == s.name.npos);
      CHECK(s.description.ends_with('.'));
      CHECK(config->isSet(s.name) == !s.defaultValue.empty());
      if (s.unit == Unit::kBytes || s.unit == Unit::kDuration || s.unit == Unit::kCount)
        CHECK(s.min < s.max);
      CHECK((s.unit == Unit::kChoice) == !s.choices.empty());
    }
  }
}
