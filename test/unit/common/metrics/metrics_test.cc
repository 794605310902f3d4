#include "common/metrics/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <vector>

using namespace cairn;

namespace {

struct ManualClock final : Clock {
  TimePoint time{};
  TimePoint now() const override { return time; }
  WallNs wallNow() const override { return 0; }
};

bool hasLine(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("quantiles are upper bounds within 19 %") {
  SeededRandom random(7);
  for (int round = 0; round < 20; ++round) {
    LatencyHistogram h;
    std::vector<double> all;
    for (int i = 0; i < 1000; ++i) {
      // Spread over all magnitudes from 1 us to 64 s.
      const auto ns = static_cast<int64_t>((1000 + random.below(1000)) << random.below(26));
      h.record(Duration(ns));
      all.push_back(static_cast<double>(ns) / 1e9);
    }
    std::ranges::sort(all);
    for (double q : {0.01, 0.5, 0.95, 0.99, 1.0}) {
      const double exact = all[static_cast<size_t>(q * 1000) - 1];
      const double shown = h.quantileSeconds(q);
      CAPTURE(q);
      CHECK(shown >= exact);
      CHECK(shown <= exact * 1.1893);
    }
  }
}

TEST_CASE("the histogram takes any duration") {
  LatencyHistogram h;
  CHECK(h.quantileSeconds(0.5) == 0);
  h.record(Duration(-5));
  h.record(Duration(0));
  CHECK(h.quantileSeconds(1) == doctest::Approx(1e-6));
  h.record(1h);
  CHECK(h.count() == 3);
  CHECK(h.quantileSeconds(1) == doctest::Approx(LatencyHistogram::boundSeconds(107)));
  CHECK(h.sumSeconds() == doctest::Approx(3600));
  CHECK(h.quantileSeconds(-1) == doctest::Approx(1e-6));
}

TEST_CASE("samples of one name are shown together under one header") {
  MetricsRegistry r;
  uint64_t& reads = r.counter("bytes", "Bytes moved.", metricLabel("dir", "read"));
  r.counter("restarts", "Restarts.") = 2;
  uint64_t& writes = r.counter("bytes", "Bytes moved.", metricLabel("dir", "write"));
  reads = 10;
  writes += 20;
  CHECK(&r.counter("bytes", "", metricLabel("dir", "read")) == &reads);
  r.gauge("free_bytes", "Free.", [] { return 1.5; });
  const std::string text = r.render();
  CHECK(text.find("# HELP cairn_bytes_total Bytes moved.\n# TYPE cairn_bytes_total counter\n"
                  "cairn_bytes_total{dir=\"read\"} 10\ncairn_bytes_total{dir=\"write\"} 20\n") !=
        std::string::npos);
  CHECK(hasLine(text, "cairn_restarts_total 2"));
  CHECK(hasLine(text, "# TYPE cairn_free_bytes gauge"));
  CHECK(hasLine(text, "cairn_free_bytes 1.5"));
}

TEST_CASE("a gauge of the same name and labels takes the old one's place") {
  MetricsRegistry r;
  r.gauge("depth", "Queue.", [] { return 1.0; });
  r.gauge("depth", "Queue.", [] { return 2.0; });
  CHECK(hasLine(r.render(), "cairn_depth 2"));
  CHECK_FALSE(hasLine(r.render(), "cairn_depth 1"));
}

TEST_CASE("references stay valid while metrics are added") {
  MetricsRegistry r;
  uint64_t& first = r.counter("n", "N.", "i=\"-\"");
  OpMetrics& op = r.op("first");
  for (int i = 0; i < 1000; ++i) {
    r.counter("n", "N.", metricLabel("i", std::to_string(i)));
    r.counter("n" + std::to_string(i), "N.");
    r.op("op" + std::to_string(i));
  }
  first = 99;
  op.errors = 5;
  CHECK(hasLine(r.render(), "cairn_n_total{i=\"-\"} 99"));
  CHECK(hasLine(r.render(), "cairn_op_errors_total{op=\"first\"} 5"));
}

TEST_CASE("an operation is counted with its time, and as an error unless it was ok") {
  MetricsRegistry r;
  ManualClock clock;
  OpMetrics& op = r.op("read");
  {
    OpTimer timer(op, clock);
    CHECK(op.inFlight == 1);
    clock.time += 3ms;
    timer.ok();
  }
  {
    OpTimer timer(op, clock);
    timer.done(Result<int>(fail(Errc::kIo)));
  }
  CHECK(op.inFlight == 0);
  CHECK(op.errors == 1);
  CHECK(op.latency.count() == 2);
  const std::string text = r.render();
  CHECK(hasLine(text, "cairn_op_total{op=\"read\"} 2"));
  CHECK(hasLine(text, "cairn_op_errors_total{op=\"read\"} 1"));
  CHECK(hasLine(text, "cairn_op_in_flight{op=\"read\"} 0"));
  CHECK(hasLine(text, "cairn_op_seconds_sum{op=\"read\"} 0.003"));
  CHECK(text.find("cairn_op_seconds{op=\"read\",quantile=\"0.99\"} 0.003") != std::string::npos);
}

TEST_CASE("the rendering is valid Prometheus text") {
  MetricsRegistry r;
  r.counter("c", "Back\\slash and\nnewline.", metricLabel("path", "a\"b\\c\nd"));
  r.gauge("inf", "Inf.", [] { return 1.0 / 0.0; });
  r.gauge("nan", "NaN.", [] { return 0.0 / 0.0; });
  for (int i = 0; i < 100; ++i) r.op("write").latency.record(Duration(1000 << (i % 28)));
  const std::string text = r.render();
  CHECK(text.ends_with('\n'));
  CHECK(hasLine(text, "# HELP cairn_c_total Back\\\\slash and\\nnewline."));
  CHECK(hasLine(text, "cairn_c_total{path=\"a\\\"b\\\\c\\nd\"} 0"));
  CHECK(hasLine(text, "cairn_inf +Inf"));

  // Each name is typed once and before its samples; no sample appears twice; buckets never fall.
  std::set<std::string> typed, seen;
  uint64_t last = 0;
  size_t buckets = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    if (line.starts_with("# TYPE ")) {
      std::string name = line.substr(7, line.find(' ', 7) - 7);
      CHECK(typed.insert(name).second);
    } else if (!line.starts_with("#")) {
      CHECK(seen.insert(line.substr(0, line.rfind(' '))).second);
      if (line.starts_with("cairn_op_latency_seconds_bucket")) {
        const uint64_t value = std::stoull(line.substr(line.rfind(' ')));
        CHECK(value >= last);
        last = value;
        ++buckets;
      }
    }
  }
  CHECK(buckets > 10);
  CHECK(last == 100);
  CHECK(hasLine(text, "cairn_op_latency_seconds_bucket{op=\"write\",le=\"+Inf\"} 100"));
}
