#include <doctest/doctest.h>

#include "common/config/config.h"

using namespace cairn;

TEST_CASE("sizes are read with binary units only") {
  CHECK(parseBytes("0") == 0u);
  CHECK(parseBytes("4096") == 4096u);
  CHECK(parseBytes("512B") == 512u);
  CHECK(parseBytes("64MiB") == 64 * kMiB);
  CHECK(parseBytes("1 GiB") == kGiB);
  CHECK(parseBytes(" 2TiB ") == 2048 * kGiB);
  CHECK(parseBytes("1.5KiB") == 1536u);
  CHECK(parseBytes("0.1KiB") == 102u);  // rounded down
  CHECK(parseBytes("18446744073709551615") == UINT64_MAX);

  for (const char* bad : {"", " ", "MiB", "-1", "1MB", "1mib", "1 M", "1.KiB", ".5KiB", "1.5",
                          "0x10", "1e3", "64MiB!", "5 parsecs", "18446744073709551616",
                          "16777216TiB", "99999999999999999999GiB", "1.0000000000GiB", "1KiB 1B"}) {
    CAPTURE(bad);
    auto r = parseBytes(bad);
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().code == Errc::kInvalid);
    CHECK(r.error().message.find("64MiB") != std::string::npos);  // shows the right form
  }
}

TEST_CASE("times need a unit, except zero") {
  CHECK(parseDuration("250ms") == 250ms);
  CHECK(parseDuration("3s") == 3s);
  CHECK(parseDuration("1.5 s") == 1500ms);
  CHECK(parseDuration("10us") == 10us);
  CHECK(parseDuration("2min") == 2min);
  CHECK(parseDuration("24h") == 24h);
  CHECK(parseDuration("0") == Duration(0));

  for (const char* bad : {"", "5", "s", "-1s", "5m", "5sec", "1s500ms", "10000000h", "5 S"}) {
    CAPTURE(bad);
    auto r = parseDuration(bad);
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().message.find("250ms") != std::string::npos);
  }
}

TEST_CASE("sizes are shown with at most one decimal") {
  CHECK(formatBytes(0) == "0 B");
  CHECK(formatBytes(1023) == "1023 B");
  CHECK(formatBytes(1024) == "1 KiB");
  CHECK(formatBytes(1536) == "1.5 KiB");
  CHECK(formatBytes(3 * kGiB / 2) == "1.5 GiB");
  CHECK(formatBytes(kMiB - 1) == "1 MiB");  // never "1024.0 KiB"
  CHECK(formatBytes(64 * kMiB) == "64 MiB");
  CHECK(formatBytes(UINT64_MAX) == "16 EiB");
}

TEST_CASE("what formatDuration writes parses back to the same time") {
  for (Duration d : {Duration(0), Duration(1), Duration(999), Duration(1us), Duration(1500us),
                     Duration(250ms), Duration(1s), Duration(90s), Duration(1h), Duration(25h)}) {
    CAPTURE(formatDuration(d));
    CHECK(parseDuration(formatDuration(d)) == d);
  }
  CHECK(formatDuration(60s) == "1min");
  CHECK(formatDuration(1500ms) == "1500ms");
}
