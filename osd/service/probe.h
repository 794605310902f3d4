// The metrics of the OSD service, so that their names stay out of its logic.
#pragma once

#include "common/metrics/metrics.h"

namespace cairn::osd {

struct Probe {
  explicit Probe(MetricsRegistry& m)
      : read(m.op("read")),
        write(m.op("write")),
        zero(m.op("zero")),
        allocate(m.op("allocate")),
        clone(m.op("clone")),
        remove(m.op("remove")),
        replicate(m.op("replicate")),
        extents(m.op("extents")),
        stat(m.op("stat")),
        list(m.op("list")),
        ping(m.op("ping")),
        changes(m.op("changes")),
        digest(m.op("digest")),
        fetch(m.op("fetch")),
        staged(m.op("staged")),
        forward(m.op("forward")),
        bytesRead(m.counter("osd_read_bytes", "Bytes of data that reads were answered with.")),
        bytesWritten(m.counter("osd_written_bytes", "Bytes of data that clients wrote.")),
        bytesCloned(
            m.counter("osd_cloned_bytes", "Bytes that clients had cloned instead of written.")),
        bytesReplicated(
            m.counter("osd_replicated_bytes", "Bytes of data stored for other primaries.")),
        refusedBusy(m.counter("osd_refused_busy", "Requests refused because a limit was reached.")),
        refusedStale(m.counter("osd_refused_stale", "Requests refused for their map epoch.")),
        refusedFenced(
            m.counter("osd_refused_fenced", "Requests refused because their session expired.")),
        unhealed(m.counter("osd_unhealed_blocks",
                           "Times that no member had a good copy of a damaged block.")),
        healed(m.counter("osd_healed_blocks",
                         "Damaged blocks that were written anew from another member.")) {}

  OpMetrics &read, &write, &zero, &allocate, &clone;
  OpMetrics &remove, &replicate, &extents, &stat, &list, &ping, &changes, &digest, &fetch, &staged;
  OpMetrics& forward;  // one mutation sent to one replica
  uint64_t &bytesRead, &bytesWritten, &bytesCloned, &bytesReplicated;
  uint64_t &refusedBusy, &refusedStale, &refusedFenced, &unhealed, &healed;
};

}  // namespace cairn::osd
