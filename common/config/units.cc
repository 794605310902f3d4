// Sizes and times as people write them in a configuration file, and back.
#include <array>
#include <charconv>
#include <cstdio>
#include <iterator>

#include "common/config/config.h"

namespace cairn {
namespace {

struct UnitName {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array kByteUnits = {
    UnitName{"B", 1},      UnitName{"KiB", kKiB},        UnitName{"MiB", kMiB},
    UnitName{"GiB", kGiB}, UnitName{"TiB", 1024 * kGiB}, UnitName{"PiB", 1024 * 1024 * kGiB},
};
constexpr std::array kTimeUnits = {
    UnitName{"ns", 1},
    UnitName{"us", 1'000},
    UnitName{"ms", 1'000'000},
    UnitName{"s", 1'000'000'000},
    UnitName{"min", 60'000'000'000},
    UnitName{"h", 3'600'000'000'000},
};

constexpr std::string_view kBytesForm =
    "not a size; write bytes, or a number with KiB, MiB, GiB or TiB, like 64MiB";
constexpr std::string_view kDurationForm =
    "not a time; write a number with us, ms, s, min or h, like 250ms";

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

bool isDigit(char c) {
  return c >= '0' && c <= '9';
}

// NUMBER [. FRACTION] [blank] UNIT, in the smallest unit, rounded down. Nothing on any error:
// overflow included. The integer arithmetic keeps "0.1GiB" exact to the byte on every machine.
std::optional<uint64_t> parseQuantity(std::string_view text, std::span<const UnitName> units,
                                      std::optional<uint64_t> bareFactor) {
  text = trim(text);
  size_t digits = 0;
  while (digits < text.size() && isDigit(text[digits])) ++digits;
  uint64_t whole = 0;
  if (digits == 0) return std::nullopt;
  if (std::from_chars(text.data(), text.data() + digits, whole).ec != std::errc{})
    return std::nullopt;
  text.remove_prefix(digits);

  uint64_t fraction = 0, scale = 1;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    size_t count = 0;
    for (; count < text.size() && isDigit(text[count]); ++count) {
      if (count == 9) return std::nullopt;  // finer than any unit needs
      fraction = fraction * 10 + static_cast<uint64_t>(text[count] - '0');
      scale *= 10;
    }
    if (count == 0) return std::nullopt;
    text.remove_prefix(count);
  }

  text = trim(text);
  uint64_t factor = 0;
  if (text.empty()) {
    if (scale != 1) return std::nullopt;
    if (bareFactor)
      factor = *bareFactor;
    else if (whole != 0)
      return std::nullopt;
  } else {
    for (const auto& unit : units)
      if (unit.name == text) factor = unit.factor;
    if (factor == 0) return std::nullopt;
  }

  __extension__ using Wide = unsigned __int128;
  const Wide value = Wide{whole} * factor + Wide{fraction} * factor / scale;
  if (value > UINT64_MAX) return std::nullopt;
  return static_cast<uint64_t>(value);
}

}  // namespace

Result<uint64_t> parseBytes(std::string_view text) {
  if (auto value = parseQuantity(text, kByteUnits, 1)) return *value;
  return fail(Errc::kInvalid, std::string(kBytesForm));
}

Result<Duration> parseDuration(std::string_view text) {
  auto value = parseQuantity(text, kTimeUnits, std::nullopt);
  if (!value || *value > static_cast<uint64_t>(INT64_MAX))
    return fail(Errc::kInvalid, std::string(kDurationForm));
  return Duration(static_cast<int64_t>(*value));
}

std::string formatBytes(uint64_t bytes) {
  constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  uint64_t factor = 1;
  while (unit + 1 < std::size(kNames) && bytes / factor >= 1024) {
    factor *= 1024;
    ++unit;
  }
  // Tenths, rounded to the nearest; what rounds up to 1024 is shown in the next unit.
  uint64_t whole = bytes / factor;
  uint64_t tenths = (bytes % factor * 10 + factor / 2) / factor;
  if (tenths == 10) {
    ++whole;
    tenths = 0;
  }
  if (whole == 1024 && unit + 1 < std::size(kNames)) {
    whole = 1;
    ++unit;
  }
  char out[48];
  if (tenths == 0)
    std::snprintf(out, sizeof out, "%llu %s", static_cast<unsigned long long>(whole), kNames[unit]);
  else
    std::snprintf(out, sizeof out, "%llu.%llu %s", static_cast<unsigned long long>(whole),
                  static_cast<unsigned long long>(tenths), kNames[unit]);
  return out;
}

std::string formatDuration(Duration duration) {
  const auto ns = static_cast<uint64_t>(duration.count() < 0 ? 0 : duration.count());
  if (ns == 0) return "0s";
  const UnitName* best = &kTimeUnits[0];
  for (const auto& unit : kTimeUnits)
    if (ns % unit.factor == 0) best = &unit;
  return std::to_string(ns / best->factor) + std::string(best->name);
}

}  // namespace cairn
