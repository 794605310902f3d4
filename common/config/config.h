// Settings of a daemon: a table with description, unit, bounds and default for each; values from a
// TOML file and from flags. The table also produces the man page cairn.conf(5).
//
// Loaded once, in main() before the reactor runs (reading the file blocks); a Config is a value and
// never changes afterwards, so any thread may read it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/units.h"

namespace cairn {

enum class Unit : uint8_t {
  kCount,     // integer
  kBytes,     // integer or "64MiB" (B KiB MiB GiB TiB)
  kDuration,  // "250ms" (us ms s min h)
  kBool,
  kText,       // any text
  kChoice,     // one of `choices`
  kPath,       // absolute, or relative to the file that sets it
  kEndpoint,   // HOST:PORT
  kEndpoints,  // HOST:PORT[,HOST:PORT...]
};

struct Setting {
  std::string_view name;         // "section.key", as in the TOML file
  std::string_view description;  // one sentence
  Unit unit;
  std::string_view
      defaultValue;  // as written in a file; empty = none, must be given where it is needed
  int64_t min = 0, max = INT64_MAX;  // kCount; kBytes in bytes; kDuration in ns
  std::string_view choices = {};     // kChoice: "a|b|c"
  bool needsRestart = true;
};

class Config {
 public:
  // Reads `file` (if given) and then `overrides` ("section.key" -> text); an empty text unsets. An
  // unknown key, a bad unit, a value out of bounds or a TOML error gives kInvalid with the file,
  // line, key, reason and the allowed values. One file may serve several programs: keys of the
  // other tables are checked and left out.
  static Result<Config> load(std::span<const Setting> table, std::optional<std::string> file,
                             const std::map<std::string, std::string>& overrides = {});

  // For keys of the table only (asserted).
  [[nodiscard]] int64_t integer(std::string_view name) const;  // kCount
  [[nodiscard]] uint64_t bytes(std::string_view name) const;
  [[nodiscard]] Duration duration(std::string_view name) const;
  [[nodiscard]] bool boolean(std::string_view name) const;
  [[nodiscard]] const std::string& text(
      std::string_view name) const;  // kText, kChoice, kPath, kEndpoint(s); "" if unset
  [[nodiscard]] bool isSet(std::string_view name) const;  // given, or has a default
  // kInvalid, with the way to set it, unless isSet(). For settings that have no default.
  [[nodiscard]] Result<void> require(std::string_view name) const;

 private:
  struct Value {
    std::string text;
    int64_t number = 0;
    bool set = false;
  };
  [[nodiscard]] const Value& value(std::string_view name) const;
  std::map<std::string, Value, std::less<>> values_;
};

// "64MiB" and "250ms" as numbers; the error says which forms are understood.
Result<uint64_t> parseBytes(std::string_view text);
Result<Duration> parseDuration(std::string_view text);
std::string formatBytes(uint64_t bytes);           // "1.5 GiB"
std::string formatDuration(Duration duration);     // "250ms", exact
std::string formatBounds(const Setting& setting);  // "1 to 7", "ssd, hdd"; "" where all is allowed

// The settings of each program; each list is defined beside the table in common/config/tables.cc.
std::span<const Setting> mdsSettings();
std::span<const Setting> osdSettings();
std::span<const Setting> clientSettings();

}  // namespace cairn
