#include "common/metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cairn {
namespace {

// Upper bounds in ns: 1 us * 2^(i/4).
constexpr auto kBounds = [] {
  constexpr double kRoots[] = {1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429};
  std::array<int64_t, LatencyHistogram::kBuckets> bounds{};
  for (size_t i = 0; i < bounds.size(); ++i)
    bounds[i] = static_cast<int64_t>(1000.0 * kRoots[i % 4] * static_cast<double>(1ull << (i / 4)));
  return bounds;
}();

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char out[32];
  std::snprintf(out, sizeof out, "%.9g", value);
  return out;
}

void header(std::string& out, const std::string& name, std::string_view help, const char* type) {
  out += "# HELP " + name + " ";
  for (char c : help) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  out += "\n# TYPE " + name + " " + type + "\n";
}

void sample(std::string& out, const std::string& name, const std::string& labels,
            const std::string& value) {
  out += name;
  if (!labels.empty()) out += "{" + labels + "}";
  out += " " + value + "\n";
}

template <class Sample>
Sample& findOrAdd(std::deque<Sample>& samples, std::string labels) {
  for (Sample& s : samples)
    if (s.labels == labels) return s;
  samples.emplace_back();
  samples.back().labels = std::move(labels);
  return samples.back();
}

void renderLatency(std::string& out, const std::string& labels, const LatencyHistogram& h) {
  const std::string name = "cairn_op_latency_seconds";
  uint64_t below = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    below += h.inBucket(i);
    // One bound per factor of four is enough for graphs, and keeps the answer small. The last
    // bucket holds everything longer too: only +Inf is true of it.
    if (i % 8 != 0 || i + 1 == LatencyHistogram::kBuckets) continue;
    sample(out, name + "_bucket",
           labels + "," + metricLabel("le", number(LatencyHistogram::boundSeconds(i))),
           std::to_string(below));
  }
  sample(out, name + "_bucket", labels + "," + metricLabel("le", "+Inf"),
         std::to_string(h.count()));
  sample(out, name + "_sum", labels, number(h.sumSeconds()));
  sample(out, name + "_count", labels, std::to_string(h.count()));
}

}  // namespace

void LatencyHistogram::record(Duration d) {
  const int64_t ns = std::max<int64_t>(d.count(), 0);
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end() - 1, ns) - kBounds.begin();
  ++buckets_[static_cast<size_t>(bucket)];
  ++count_;
  sumNs_ += static_cast<uint64_t>(ns);
}

double LatencyHistogram::boundSeconds(size_t i) {
  return static_cast<double>(kBounds[i]) / 1e9;
}

double LatencyHistogram::quantileSeconds(double q) const {
  if (count_ == 0) return 0;
  const double rank = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const auto wanted = std::max<uint64_t>(static_cast<uint64_t>(rank), 1);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return boundSeconds(i);
  }
  return boundSeconds(kBuckets - 1);
}

std::string metricLabel(std::string_view key, std::string_view value) {
  std::string out(key);
  out += "=\"";
  for (char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

uint64_t& MetricsRegistry::counter(std::string name, std::string help, std::string labels) {
  auto& family = counters_[std::move(name)];
  if (family.help.empty()) family.help = std::move(help);
  return findOrAdd(family.samples, std::move(labels)).value;
}

void MetricsRegistry::gauge(std::string name, std::string help, std::function<double()> sample,
                            std::string labels) {
  auto& family = gauges_[std::move(name)];
  if (family.help.empty()) family.help = std::move(help);
  findOrAdd(family.samples, std::move(labels)).sample = std::move(sample);
}

OpMetrics& MetricsRegistry::op(const std::string& name) {
  return ops_[name];
}

std::string MetricsRegistry::render() const {
  std::string out;
  for (const auto& [name, family] : counters_) {
    const std::string full = "cairn_" + name + "_total";
    header(out, full, family.help, "counter");
    for (const auto& c : family.samples) sample(out, full, c.labels, std::to_string(c.value));
  }
  for (const auto& [name, family] : gauges_) {
    const std::string full = "cairn_" + name;
    header(out, full, family.help, "gauge");
    for (const auto& g : family.samples) sample(out, full, g.labels, number(g.sample()));
  }
  if (ops_.empty()) return out;

  header(out, "cairn_op_total", "Operations that ended.", "counter");
  for (const auto& [name, op] : ops_)
    sample(out, "cairn_op_total", metricLabel("op", name), std::to_string(op.latency.count()));
  header(out, "cairn_op_errors_total", "Operations that ended with an error.", "counter");
  for (const auto& [name, op] : ops_)
    sample(out, "cairn_op_errors_total", metricLabel("op", name), std::to_string(op.errors));
  header(out, "cairn_op_in_flight", "Operations under way.", "gauge");
  for (const auto& [name, op] : ops_)
    sample(out, "cairn_op_in_flight", metricLabel("op", name), std::to_string(op.inFlight));
  header(out, "cairn_op_seconds", "Time an operation took, since the start of the daemon.",
         "summary");
  for (const auto& [name, op] : ops_) {
    const std::string labels = metricLabel("op", name);
    for (const auto& [text, q] : {std::pair{"0.5", 0.5}, {"0.95", 0.95}, {"0.99", 0.99}})
      sample(out, "cairn_op_seconds", labels + "," + metricLabel("quantile", text),
             number(op.latency.quantileSeconds(q)));
    sample(out, "cairn_op_seconds_sum", labels, number(op.latency.sumSeconds()));
    sample(out, "cairn_op_seconds_count", labels, std::to_string(op.latency.count()));
  }
  header(out, "cairn_op_latency_seconds", "Time an operation took.", "histogram");
  for (const auto& [name, op] : ops_) renderLatency(out, metricLabel("op", name), op.latency);
  return out;
}

}  // namespace cairn
