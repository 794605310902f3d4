// Every setting of every program: the single source of what is accepted, of its bounds and default,
// and of cairn.conf(5). To add a setting, add a line; the man page and its test follow.
//
// Descriptions are whole sentences without the unit or the bounds: the page prints those itself.
#include "common/config/config.h"

namespace cairn {
namespace {

constexpr int64_t kMs = 1'000'000;  // kDuration bounds are in nanoseconds
constexpr int64_t kSecond = 1'000 * kMs;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kMi = kMiB;  // kBytes bounds
constexpr int64_t kGi = kGiB;
constexpr int64_t kTi = 1024 * kGi;

constexpr std::string_view kLogLevels = "debug|info|warning|error";

constexpr Setting kMds[] = {
    {"mds.data",
     "Directory of the namespace, the cluster map and the command log. One daemon at a time uses "
     "it.",
     Unit::kPath, ""},
    {"mds.listen", "Address and port where clients and OSDs are served.", Unit::kEndpoint,
     "0.0.0.0:7700"},
    {"mds.advertise",
     "Address that others use to reach this server, where it differs from mds.listen. "
     "Unset: mds.listen, or the host's name when that is 0.0.0.0.",
     Unit::kEndpoint, ""},
    {"mds.metrics_listen", "Address and port of /metrics and /healthz. Empty: none.",
     Unit::kEndpoint, "127.0.0.1:7701"},
    {"mds.log_level", "The least important messages that are logged.", Unit::kChoice, "info", 0, 0,
     kLogLevels},
    {"mds.replicas",
     "Copies kept of each chunk of the first pool, which is made with the cluster. Later changes "
     "of this setting change nothing.",
     Unit::kCount, "3", 1, 7},
    {"mds.osd_lease",
     "For so long an OSD may act on its map after asking for it. One that has not been heard for "
     "this long and a quarter is called down, and others take its place. It is renewed five times "
     "in that time. Stop the OSDs for the old time before the server starts with a shorter one.",
     Unit::kDuration, "1500ms", 500 * kMs, kMinute},
    {"mds.client_lease",
     "For so long a client may act on its map and its caches after asking for them. It waits for a "
     "server that is away; others wait for it so long, and a quarter, if it is silent.",
     Unit::kDuration, "5s", 500 * kMs, kMinute},
    {"mds.osd_out_after",
     "An OSD that has been down for this long is put out: others get what it held, from the copies "
     "that are left. It comes in again by itself. 0: never.",
     Unit::kDuration, "10min", 0, 30 * 24 * kHour},
    {"mds.session_timeout",
     "A client that has not been heard for this long is ended: its open files are released "
     "and what it had not flushed is lost.",
     Unit::kDuration, "60s", 5 * kSecond, kHour},
    {"mds.log_bytes", "Size of the command log, preallocated and recycled.", Unit::kBytes, "256MiB",
     16 * kMi, 64 * kGi},
    {"mds.cache_bytes", "Memory for the blocks of the metadata store.", Unit::kBytes, "256MiB",
     8 * kMi, 1 * kTi},
    {"mds.reserve",
     "Free space on the file system of mds.data below which nothing new is made (removals go on), "
     "so that the metadata store itself always finds room.",
     Unit::kBytes, "128MiB", 16 * kMi, 1 * kTi},
    {"mds.gc_interval", "How often deleted chunks are handed to the OSDs to be freed.",
     Unit::kDuration, "1s", 10 * kMs, kHour},
};

constexpr Setting kOsd[] = {
    {"osd.data",
     "Directory of the store: its metadata and, without osd.device, its data. One daemon at a time "
     "uses it.",
     Unit::kPath, ""},
    {"osd.device",
     "Raw block device that holds the data. All of it is used. Unset: a file in osd.data.",
     Unit::kPath, ""},
    {"osd.size",
     "Size of the store's file when there is no osd.device. It is preallocated when the store is "
     "made.",
     Unit::kBytes, "16GiB", 64 * kMi, 1024 * kTi},
    {"osd.listen",
     "Address and port where clients and other OSDs are served. Each OSD of a host needs its own "
     "port.",
     Unit::kEndpoint, "0.0.0.0:7800"},
    {"osd.advertise",
     "Address that others use to reach this OSD, where it differs from osd.listen. "
     "Unset: osd.listen, or the host's name when that is 0.0.0.0.",
     Unit::kEndpoint, ""},
    {"osd.mds", "Addresses of the metadata servers.", Unit::kEndpoints, "127.0.0.1:7700"},
    {"osd.metrics_listen",
     "Address and port of /metrics and /healthz. Each OSD of a host needs its own port. "
     "Empty: none.",
     Unit::kEndpoint, "127.0.0.1:7900"},
    {"osd.log_level", "The least important messages that are logged.", Unit::kChoice, "info", 0, 0,
     kLogLevels},
    {"osd.class", "Kind of the device, which pools can ask for.", Unit::kChoice, "ssd", 0, 0,
     "ssd|hdd"},
    {"osd.host", "Name of the host as a failure domain. Unset: the host's own name.", Unit::kText,
     ""},
    {"osd.rack", "Name of the rack as a failure domain.", Unit::kText, ""},
    {"osd.wal_bytes",
     "Size of the write-ahead log for small writes, preallocated and recycled. Set when the store "
     "is made.",
     Unit::kBytes, "256MiB", 16 * kMi, 64 * kGi},
    {"osd.cache_bytes", "Memory for the blocks of the store's metadata.", Unit::kBytes, "256MiB",
     8 * kMi, 1 * kTi},
    {"osd.disk_timeout",
     "A disk that leaves an operation unanswered for so long hangs: the OSD sends no heartbeats "
     "until it answers, and others take over.",
     Unit::kDuration, "5s", kSecond, kHour},
    {"osd.scrub_interval",
     "How often the copies of each placement group that this OSD leads are compared by chunks and "
     "versions. 0: only when asked (cairn scrub start).",
     Unit::kDuration, "24h", 0, 365 * 24 * kHour},
    {"osd.deep_scrub_interval",
     "How often every block of them is read, verified and compared, and mended where it must be.",
     Unit::kDuration, "168h", 0, 365 * 24 * kHour},
    {"osd.reserve",
     "Free space that user data may not take, so that deletes and metadata always find room.",
     Unit::kBytes, "64MiB", 4 * kMi, 1 * kTi},
};

constexpr Setting kClient[] = {
    {"client.cache_bytes", "Memory for file data that was read or written.", Unit::kBytes, "256MiB",
     16 * kMi, 1 * kTi},
    {"client.write_buffer_bytes",
     "Unflushed data a mount may hold. Writers wait once it is reached.", Unit::kBytes, "128MiB",
     4 * kMi, 64 * kGi},
    {"client.flush_age",
     "Written data is sent to the OSDs at the latest after this time, even without fsync or close.",
     Unit::kDuration, "3s", 10 * kMs, 10 * kMinute},
    {"client.readahead_bytes",
     "How far ahead of a sequential reader data is fetched. 0: not at all.", Unit::kBytes, "16MiB",
     0, 1 * kGi},
    {"client.request_timeout",
     "How long an operation waits for servers that are away before it fails with an error. 0: for "
     "as long as they are.",
     Unit::kDuration, "0s", 0, 24 * kHour},
    {"client.log_level", "The least important messages that are logged.", Unit::kChoice, "info", 0,
     0, kLogLevels},
};

}  // namespace

std::span<const Setting> mdsSettings() {
  return kMds;
}
std::span<const Setting> osdSettings() {
  return kOsd;
}
std::span<const Setting> clientSettings() {
  return kClient;
}

}  // namespace cairn
