// Counters, gauges and latency histograms, shown in Prometheus text format (version 0.0.4). One
// registry per daemon; updates and rendering on the reactor's thread. Components keep pointers to
// their metrics in a `probe`, so that names stay out of logic. See common/metrics/http.h for the
// server that shows them.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/units.h"
#include "common/reactor/clock.h"

namespace cairn {

// Durations in exponential buckets, four per power of two from 1 us to 113 s: quantiles within
// 19 %. What took longer counts in the last bucket.
class LatencyHistogram {
 public:
  void record(Duration d);
  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] double sumSeconds() const { return static_cast<double>(sumNs_) / 1e9; }
  // Upper bound of the bucket that holds the q-quantile, in seconds; 0 when nothing was recorded.
  [[nodiscard]] double quantileSeconds(double q) const;

  static constexpr size_t kBuckets = 108;
  // How many recorded durations lie in bucket `i`, and its (inclusive) upper bound.
  [[nodiscard]] uint64_t inBucket(size_t i) const { return buckets_[i]; }
  [[nodiscard]] static double boundSeconds(size_t i);

 private:
  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t sumNs_ = 0;
};

// Count, errors and latency of one kind of operation.
struct OpMetrics {
  uint64_t errors = 0;
  LatencyHistogram latency;  // its count is the operations' count
  uint64_t inFlight = 0;
};

// `key="value"`, escaped: what counter() and gauge() take as labels (join several with a comma).
std::string metricLabel(std::string_view key, std::string_view value);

class MetricsRegistry {
 public:
  // `cairn_<name>_total`, with optional labels already formatted (`op="read"`). References stay
  // valid for the registry's life; the same name and labels give the same counter.
  uint64_t& counter(std::string name, std::string help, std::string labels = {});
  // `cairn_<name>`, sampled at rendering, so `sample` must stay callable for the registry's life or
  // until a gauge of the same name and labels takes its place.
  void gauge(std::string name, std::string help, std::function<double()> sample,
             std::string labels = {});
  // With label op="<name>": cairn_op_total, cairn_op_errors_total, cairn_op_in_flight,
  // cairn_op_seconds{quantile=…} since the start, and the histogram cairn_op_latency_seconds, which
  // can be summed over daemons and rated over time. References stay valid for the registry's life.
  OpMetrics& op(const std::string& name);
  [[nodiscard]] std::string render() const;

 private:
  struct Counter {
    std::string labels;
    uint64_t value = 0;
  };
  struct Gauge {
    std::string labels;
    std::function<double()> sample;
  };
  // Prometheus wants all samples of one name together. Deques keep references valid.
  template <class Sample>
  struct Family {
    std::string help;
    std::deque<Sample> samples;
  };
  std::map<std::string, Family<Counter>> counters_;
  std::map<std::string, Family<Gauge>> gauges_;
  std::map<std::string, OpMetrics> ops_;
};

// Counts one operation from construction to destruction; failed unless ok() was called.
class OpTimer {
 public:
  OpTimer(OpMetrics& op, Clock& clock) : op_(op), clock_(clock), start_(clock.now()) {
    ++op_.inFlight;
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;
  ~OpTimer() {
    --op_.inFlight;
    op_.latency.record(clock_.now() - start_);
    if (!ok_) ++op_.errors;
  }
  void ok() { ok_ = true; }
  template <class T>
  void done(const Result<T>& r) {
    ok_ = r.has_value();
  }

 private:
  OpMetrics& op_;
  Clock& clock_;
  TimePoint start_;
  bool ok_ = false;
};

}  // namespace cairn
