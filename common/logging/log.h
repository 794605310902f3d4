// Structured logs in logfmt: one line per event, to standard error or a file:
//   time=2025-01-31T12:00:00.000123Z level=info component=osd.3 event="map changed" epoch=7
// A library does not log what it returns as an error; its caller logs it once.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/reactor/clock.h"

namespace cairn {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
// "debug", "info", "warning", "error"; false for anything else.
bool parseLogLevel(std::string_view text, LogLevel& level);

// One key (lower case, no blanks) and its value, as text. Values with blanks, quotes or bytes that
// are not text are quoted and escaped when written; long ones are cut.
struct LogField {
  std::string_view key;
  std::string value;
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  template <class T>
    requires std::is_arithmetic_v<T>
  LogField(std::string_view k, T v) : key(k), value(std::to_string(v)) {}
};

// RFC 3339 in UTC with microseconds.
std::string formatUtc(WallNs wallNs);

// Any thread may log and set the level; setComponent() belongs to the start of the daemon, before
// other threads log. Each line is one write(2): lines never mix. What cannot be written is dropped.
class Log {
 public:
  // `fd` is not owned; -1 drops everything. `component` names the daemon ("mds", "osd.3").
  Log(Clock& clock, int fd, std::string component, LogLevel level = LogLevel::kInfo);
  virtual ~Log() = default;
  void debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    write(LogLevel::kDebug, event, fields);
  }
  void info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    write(LogLevel::kInfo, event, fields);
  }
  void warning(std::string_view event, std::initializer_list<LogField> fields = {}) {
    write(LogLevel::kWarning, event, fields);
  }
  void error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    write(LogLevel::kError, event, fields);
  }
  void setComponent(std::string component) { component_ = std::move(component); }
  void setLevel(LogLevel level) { level_.store(level, std::memory_order_relaxed); }

 private:
  void write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);
  Clock& clock_;
  int fd_;
  std::string component_;
  std::atomic<LogLevel> level_;
};

}  // namespace cairn
