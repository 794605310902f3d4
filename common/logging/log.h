// Structured logs: one line per event, "time level component event key=value ...", to standard
// error or a file. A library does not log what it returns as an error; its caller logs it once.
#pragma once

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

// One key and its value, as text. Values with blanks or quotes are quoted when written.
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

// Thread-safe.
class Log {
 public:
  // `fd` is not owned. `component` names the daemon ("mds", "osd.3").
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
  void setLevel(LogLevel level) { level_ = level; }

 private:
  void write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);
  Clock& clock_;
  int fd_;
  std::string component_;
  LogLevel level_;
};

}  // namespace cairn
