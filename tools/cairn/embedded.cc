#include "tools/cairn/embedded.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/cluster/mix64.h"

namespace cairn::tools {

namespace {
constexpr int kFormat = 1;
}

bool Embedded::exists(const std::string& directory) {
  return ::access((directory + "/embedded.json").c_str(), F_OK) == 0;
}

Embedded Embedded::make(std::string directory) {
  Embedded e;
  e.directory = std::move(directory);
  return e;
}

Result<Embedded> Embedded::load(const std::string& directory) {
  std::string file = directory + "/embedded.json";
  std::ifstream in(file);
  if (!in) {
    if (errno == ENOENT || errno == ENOTDIR)
      return fail(Errc::kNotFound,
                  directory + ": no embedded cluster here; make one with: cairn up --data " +
                      directory + " --mount DIR, or name another with --data or --cluster");
    return fail(errnoError(errno, file));
  }
  auto j = nlohmann::json::parse(in, nullptr, false);
  if (j.is_discarded() || !j.is_object())
    return fail(
        Errc::kCorrupt,
        file + ": not readable as JSON; restore it from a copy, the data beside it is untouched");
  int format = j.value("format", 0);
  if (format != kFormat)
    return fail(Errc::kVersion, file + ": format " + std::to_string(format) +
                                    ", this release knows " + std::to_string(kFormat) +
                                    "; use the release that made it");
  Embedded e;
  e.directory = directory;
  try {
    e.mdsPort = j.at("mds_port");
    e.replicas = j.at("replicas");
    e.mount = j.value("mount", "");
    e.osdBytes = j.value("osd_bytes", uint64_t{0});
    for (const auto& o : j.at("osds")) e.osds.push_back({o.at("number"), o.at("port")});
  } catch (const nlohmann::json::exception& x) {
    return fail(Errc::kCorrupt, file + ": " + x.what());
  }
  return e;
}

Result<void> Embedded::save() const {
  nlohmann::json j = {{"format", kFormat},
                      {"mds_port", mdsPort},
                      {"replicas", replicas},
                      {"mount", mount},
                      {"osd_bytes", osdBytes}};
  j["osds"] = nlohmann::json::array();
  for (const auto& o : osds) j["osds"].push_back({{"number", o.number}, {"port", o.port}});
  std::string file = path("embedded.json"), fresh = file + ".new", text = j.dump(2) + "\n";
  int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return fail(errnoError(errno, fresh));
  bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
            ::fsync(fd) == 0;
  int err = errno;
  ::close(fd);
  if (ok && ::rename(fresh.c_str(), file.c_str()) == 0) {
    int dir = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
      ::fsync(dir);
      ::close(dir);
    }
    return {};
  }
  ::unlink(fresh.c_str());
  return fail(errnoError(ok ? errno : err, file));
}

// Below those that Linux gives to outgoing connections (ip_local_port_range), of which one could
// have it when a daemon that was down is started again.
Result<uint16_t> freePort() {
  constexpr uint16_t kFirst = 10000, kPorts = 22000;
  constexpr int kTries = 200;
  static uint64_t tries = 0;  // each call finds another one
  int err = 0;
  for (int i = 0; i < kTries; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(errnoError(errno, "socket"));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(static_cast<uint16_t>(
        kFirst + mix64(static_cast<uint64_t>(::getpid()) << 32 | ++tries) % kPorts));
    const bool ok = ::bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
    err = errno;
    ::close(fd);
    if (ok) return ntohs(a.sin_port);
  }
  return fail(errnoError(err, "no free port on 127.0.0.1"));
}

std::string ownPath() {
  char buf[PATH_MAX];
  ssize_t n = ::readlink("/proc/self/exe", buf, sizeof buf - 1);
  return n > 0 ? std::string(buf, static_cast<size_t>(n)) : "cairn";
}

Result<std::string> siblingBinary(const std::string& name) {
  namespace fs = std::filesystem;
  fs::path here = fs::path(ownPath()).parent_path();
  std::string role = name.substr(name.find('-') + 1);  // cairn-mds -> mds
  std::vector<fs::path> places = {here / name, here.parent_path() / role / name,
                                  here.parent_path() / "sbin" / name};
  if (const char* path = std::getenv("PATH")) {
    std::string all = path;
    for (size_t at = 0; at <= all.size();) {
      size_t colon = std::min(all.find(':', at), all.size());
      places.emplace_back(fs::path(all.substr(at, colon - at)) / name);
      at = colon + 1;
    }
  }
  for (const auto& p : places)
    if (::access(p.c_str(), X_OK) == 0) return p.string();
  return fail(Errc::kNotFound, name + " is neither beside " + ownPath() +
                                   " nor on PATH; install the package " + name);
}

}  // namespace cairn::tools
