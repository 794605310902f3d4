#include "common/config/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "common/base/assert.h"
#include "common/net/network.h"

namespace cairn {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

// One key as it was written, before it is judged.
struct Entry {
  std::string name;       // "section.key"
  std::string text;       // of the value
  std::string where;      // "FILE:LINE:COL", or "command line"
  std::string directory;  // what a relative path starts from
  std::string problem;    // the value's kind is one that no setting has
  uint32_t line = 0, column = 0;
};

// Edits that turn one name into the other; a swap of neighbours counts one (optimal string
// alignment).
size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// The settings of all programs: one file may serve several of them, so a key of another program is
// no mistake.
const Setting* findAnywhere(std::span<const Setting> table, std::string_view name) {
  for (auto list : {table, mdsSettings(), osdSettings(), clientSettings()})
    for (const Setting& s : list)
      if (s.name == name) return &s;
  return nullptr;
}

std::string unknownKey(std::span<const Setting> table, std::string_view name) {
  constexpr size_t kLongestName = 64;  // compared names: a file may hold anything
  std::string_view best;
  size_t bestDistance = SIZE_MAX;
  for (auto list : {table, mdsSettings(), osdSettings(), clientSettings()}) {
    for (const Setting& s : list) {
      if (name.size() > kLongestName) continue;
      size_t distance = editDistance(name, s.name);
      // The right key without its section, or in the wrong one.
      const auto key = s.name.substr(s.name.find('.') + 1);
      const auto given = name.substr(name.find('.') == name.npos ? 0 : name.find('.') + 1);
      if (given == key) distance = std::min<size_t>(distance, 1);
      if (distance < bestDistance) {
        bestDistance = distance;
        best = s.name;
      }
    }
  }
  if (bestDistance <= std::max<size_t>(2, name.size() / 4))
    return "unknown setting; did you mean " + std::string(best) + "?";
  return "unknown setting; see cairn.conf(5) for all of them";
}

std::string formatBound(const Setting& s, int64_t value) {
  switch (s.unit) {
    case Unit::kBytes:
      return formatBytes(static_cast<uint64_t>(value));
    case Unit::kDuration:
      return formatDuration(Duration(value));
    default:
      return std::to_string(value);
  }
}

Result<void> checkBounds(const Setting& s, int64_t value) {
  if (value >= s.min && value <= s.max) return {};
  return fail(Errc::kInvalid, "out of bounds; allowed is " + formatBounds(s));
}

// What a setting's text means as a number, or a normal form of the text itself.
Result<void> convert(const Setting& s, const Entry& e, std::string& text, int64_t& number) {
  text = e.text;
  for (char c : text)
    if (static_cast<unsigned char>(c) < 0x20)
      return fail(Errc::kInvalid, "control characters are not allowed");
  switch (s.unit) {
    case Unit::kCount: {
      const char* end = text.data() + text.size();
      auto [stop, error] = std::from_chars(text.data(), end, number);
      if (error != std::errc{} || stop != end)
        return fail(Errc::kInvalid, "not a whole number; allowed is " + formatBounds(s));
      return checkBounds(s, number);
    }
    case Unit::kBytes: {
      auto bytes = parseBytes(text);
      TRY(bytes);
      if (*bytes > static_cast<uint64_t>(INT64_MAX))
        return fail(Errc::kInvalid, "out of bounds; allowed is " + formatBounds(s));
      number = static_cast<int64_t>(*bytes);
      return checkBounds(s, number);
    }
    case Unit::kDuration: {
      auto duration = parseDuration(text);
      TRY(duration);
      number = duration->count();
      return checkBounds(s, number);
    }
    case Unit::kBool:
      if (text != "true" && text != "false") return fail(Errc::kInvalid, "not true or false");
      number = text == "true";
      return {};
    case Unit::kText:
      return {};
    case Unit::kChoice: {
      for (size_t from = 0; from <= s.choices.size();) {
        const size_t bar = std::min(s.choices.find('|', from), s.choices.size());
        if (s.choices.substr(from, bar - from) == text) return {};
        from = bar + 1;
      }
      return fail(Errc::kInvalid, "allowed is " + formatBounds(s));
    }
    case Unit::kPath:
      text = (std::filesystem::path(e.directory) / text).lexically_normal().string();
      return {};
    case Unit::kEndpoint: {
      auto endpoint = parseEndpoint(text);
      TRY(endpoint);
      return {};
    }
    case Unit::kEndpoints: {
      auto endpoints = parseEndpoints(text);
      TRY(endpoints);
      return {};
    }
  }
  CAIRN_ASSERT(false, "every unit is handled above");
}

Result<std::string> readFile(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string out(kMaxFileBytes + 1, '\0');
  if (in) in.read(out.data(), static_cast<std::streamsize>(out.size()));
  if (!in && !in.eof())
    return fail(errnoError(errno != 0 ? errno : EIO, "cannot read the configuration file " + path));
  out.resize(static_cast<size_t>(in.gcount()));
  if (out.size() > kMaxFileBytes)
    return fail(Errc::kInvalid,
                path + ": larger than 1 MiB, so not a configuration file; is the name right?");
  return out;
}

// A value as it would be written with --set.
void takeValue(const toml::node& node, Entry& e) {
  if (auto text = node.value_exact<std::string>()) {
    e.text = *text;
  } else if (auto number = node.value_exact<int64_t>()) {
    e.text = std::to_string(*number);
  } else if (auto flag = node.value_exact<bool>()) {
    e.text = *flag ? "true" : "false";
  } else if (const auto* list = node.as_array(); list != nullptr && !list->empty()) {
    for (const auto& item : *list) {
      auto part = item.value_exact<std::string>();
      if (!part) {
        e.problem = "a list may hold texts only";
        return;
      }
      e.text += (e.text.empty() ? "" : ",") + *part;
    }
  } else if (node.is_floating_point()) {
    e.problem = "a number with a fraction needs quotes and a unit, like \"1.5GiB\"";
  } else {
    e.problem = "not a text, number, true or false";
  }
}

void collect(const toml::table& table, const std::string& prefix, const Entry& base,
             const std::string& file, std::vector<Entry>& out) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (const auto* inner = node.as_table()) {
      if (prefix.empty() && !inner->empty()) {
        collect(*inner, name + ".", base, file, out);
        continue;
      }
      if (prefix.empty() && findAnywhere({}, name + ".log_level") != nullptr) continue;  // [mds]
    }
    Entry e = base;
    e.name = name;
    e.line = key.source().begin.line;
    e.column = key.source().begin.column;
    e.where = file + ":" + std::to_string(e.line) + ":" + std::to_string(e.column);
    takeValue(node, e);
    out.push_back(std::move(e));
  }
}

Result<std::vector<Entry>> readEntries(const std::string& file) {
  auto text = readFile(file);
  TRY(text);
  toml::table root;
  try {
    root = toml::parse(*text, file);
  } catch (const toml::parse_error& e) {
    std::string reason(e.description());
    std::ranges::replace(reason, '\n', ' ');
    return fail(Errc::kInvalid, file + ":" + std::to_string(e.source().begin.line) + ":" +
                                    std::to_string(e.source().begin.column) + ": " + reason);
  }
  std::error_code ignored;  // without a working directory the path stays relative
  Entry base;
  base.directory = std::filesystem::absolute(file, ignored).parent_path().string();
  std::vector<Entry> entries;
  collect(root, "", base, file, entries);
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return entries;
}

}  // namespace

std::string formatBounds(const Setting& s) {
  switch (s.unit) {
    case Unit::kCount:
    case Unit::kBytes:
    case Unit::kDuration:
      if (s.max == INT64_MAX) return formatBound(s, s.min) + " or more";
      return formatBound(s, s.min) + " to " + formatBound(s, s.max);
    case Unit::kBool:
      return "true, false";
    case Unit::kChoice: {
      std::string out(s.choices);
      for (size_t at = 0; (at = out.find('|', at)) != out.npos; at += 2) out.replace(at, 1, ", ");
      return out;
    }
    default:
      return "";
  }
}

Result<Config> Config::load(std::span<const Setting> table, std::optional<std::string> file,
                            const std::map<std::string, std::string>& overrides) {
  Config config;
  std::vector<Entry> entries;
  for (const Setting& s : table) {
    config.values_[std::string(s.name)];
    if (s.defaultValue.empty()) continue;
    Entry e;
    e.name = s.name;
    e.text = s.defaultValue;
    e.where = "default";
    entries.push_back(std::move(e));
  }
  if (file) {
    auto fromFile = readEntries(*file);
    TRY(fromFile);
    std::ranges::move(*fromFile, std::back_inserter(entries));
  }
  std::error_code ignored;
  const std::string workingDirectory = std::filesystem::current_path(ignored).string();
  for (const auto& [name, text] : overrides) {
    Entry e;
    e.name = name;
    e.text = text;
    e.where = "command line";
    e.directory = workingDirectory;
    entries.push_back(std::move(e));
  }

  for (const Entry& e : entries) {
    const Setting* setting = findAnywhere(table, e.name);
    if (setting == nullptr)
      return fail(Errc::kInvalid, e.where + ": " + e.name + ": " + unknownKey(table, e.name));
    if (!e.problem.empty()) return fail(Errc::kInvalid, e.where + ": " + e.name + ": " + e.problem);
    Value value;
    if (!e.text.empty()) {  // an empty text unsets
      auto converted = convert(*setting, e, value.text, value.number);
      if (!converted)
        return fail(Errc::kInvalid, e.where + ": " + e.name + " = \"" + e.text +
                                        "\": " + converted.error().message);
      value.set = true;
    }
    if (auto kept = config.values_.find(e.name); kept != config.values_.end())
      kept->second = std::move(value);
  }
  return config;
}

const Config::Value& Config::value(std::string_view name) const {
  auto found = values_.find(name);
  CAIRN_ASSERT(found != values_.end(), "a program asks for settings of its own table");
  return found->second;
}

int64_t Config::integer(std::string_view name) const {
  return value(name).number;
}
uint64_t Config::bytes(std::string_view name) const {
  return static_cast<uint64_t>(value(name).number);
}
Duration Config::duration(std::string_view name) const {
  return Duration(value(name).number);
}
bool Config::boolean(std::string_view name) const {
  return value(name).number != 0;
}
const std::string& Config::text(std::string_view name) const {
  return value(name).text;
}
bool Config::isSet(std::string_view name) const {
  return value(name).set;
}

Result<void> Config::require(std::string_view name) const {
  if (value(name).set) return {};
  const std::string n(name);
  return fail(Errc::kInvalid,
              n + " is not set; give it in the configuration file, or with --set " + n + "=VALUE");
}

}  // namespace cairn
