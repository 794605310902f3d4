#include "common/logging/log.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace cairn {
namespace {

constexpr size_t kMaxValueBytes = 4096;
constexpr std::string_view kLevelNames[] = {"debug", "info", "warning", "error"};

// Length of the printable UTF-8 sequence at the start of `s`; 0 for anything else. C1 controls
// count as not printable: terminals act on them.
size_t printableUtf8(std::string_view s) {
  auto at = [&](size_t i) -> uint32_t { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0; };
  auto follows = [&](size_t i) { return (at(i) & 0xc0) == 0x80; };
  const uint32_t lead = at(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
  if ((lead & 0xe0) == 0xc0 && follows(1)) {
    const uint32_t point = (lead & 0x1f) << 6 | (at(1) & 0x3f);
    return point >= 0xa0 ? 2 : 0;
  }
  if ((lead & 0xf0) == 0xe0 && follows(1) && follows(2)) {
    const uint32_t point = (lead & 0x0f) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f);
    return point >= 0x800 && (point < 0xd800 || point > 0xdfff) ? 3 : 0;
  }
  if ((lead & 0xf8) == 0xf0 && follows(1) && follows(2) && follows(3)) {
    const uint32_t point =
        (lead & 0x07) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f);
    return point >= 0x10000 && point <= 0x10ffff ? 4 : 0;
  }
  return 0;
}

// File names and peers' texts end up here: whatever the bytes, the result is one value on one line.
void appendValue(std::string& out, std::string_view value) {
  const bool cut = value.size() > kMaxValueBytes;
  value = value.substr(0, kMaxValueBytes);
  bool quote = value.empty() || cut;
  for (size_t i = 0; i < value.size() && !quote;) {
    const size_t n = printableUtf8(value.substr(i));
    quote = n == 0 || value[i] == ' ' || value[i] == '"' || value[i] == '=' || value[i] == '\\';
    i += n;
  }
  if (!quote) {
    out += value;
    return;
  }
  out += '"';
  for (size_t i = 0; i < value.size();) {
    const size_t n = printableUtf8(value.substr(i));
    if (n > 0) {
      if (value[i] == '"' || value[i] == '\\') out += '\\';
      out += value.substr(i, n);
      i += n;
      continue;
    }
    const char c = value[i++];
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(static_cast<uint8_t>(c)));
      out += hex;
    }
  }
  if (cut) out += "...";
  out += '"';
}

// The whole line in one write(2), so that lines of several threads and processes do not mix. A log
// that cannot be written is no reason to stop serving: the line is dropped.
void writeLine(int fd, std::string_view line) {
  while (!line.empty()) {
    const ssize_t n = ::write(fd, line.data(), line.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    line.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

bool parseLogLevel(std::string_view text, LogLevel& level) {
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (kLevelNames[i] != text) continue;
    level = static_cast<LogLevel>(i);
    return true;
  }
  return false;
}

std::string formatUtc(WallNs wallNs) {
  constexpr int64_t kNsPerDay = 86'400'000'000'000;
  int64_t day = wallNs / kNsPerDay;
  int64_t rest = wallNs % kNsPerDay;
  if (rest < 0) {
    rest += kNsPerDay;
    --day;
  }
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
  const int64_t us = rest / 1000;
  char out[64];
  std::snprintf(out, sizeof out, "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(us / 3'600'000'000),
                static_cast<int>(us / 60'000'000 % 60), static_cast<int>(us / 1'000'000 % 60),
                static_cast<int>(us % 1'000'000));
  return out;
}

Log::Log(Clock& clock, int fd, std::string component, LogLevel level)
    : clock_(clock), fd_(fd), component_(std::move(component)), level_(level) {}

void Log::write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < level_.load(std::memory_order_relaxed) || fd_ < 0) return;
  std::string line = "time=" + formatUtc(clock_.wallNow());
  line += " level=";
  line += kLevelNames[static_cast<size_t>(level)];
  line += " component=";
  appendValue(line, component_);
  line += " event=";
  appendValue(line, event);
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    appendValue(line, field.value);
  }
  line += '\n';
  writeLine(fd_, line);
}

}  // namespace cairn
