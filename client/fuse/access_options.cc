#include "client/fuse/access_options.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>

namespace cairn::client {

namespace {

using When = AccessPolicy::When;
constexpr const char* kMountTable = "/proc/self/mountinfo";

struct MountLine {
  std::string id, directory, options;  // those of the mount, then those of the file system
};

// A blank, a tab, a line feed and a backslash are written as \ooo.
std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out +=
          static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// proc_pid_mountinfo(5). The last line that `matches`: it is on top.
template <class F>
std::optional<MountLine> findMount(F matches) {
  std::ifstream in(kMountTable);
  std::optional<MountLine> found;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    MountLine m;
    std::string parent, device, root, word, type, source, ofFilesystem;
    fields >> m.id >> parent >> device >> root >> m.directory >> m.options;
    while (fields >> word && word != "-") {
    }
    fields >> type >> source >> ofFilesystem;
    m.directory = unescaped(m.directory);
    m.options += "," + ofFilesystem;
    if (matches(m)) found = std::move(m);
  }
  return found;
}

bool has(std::string_view options, std::string_view word) {
  for (size_t at = 0; at <= options.size();) {
    const size_t comma = std::min(options.find(',', at), options.size());
    if (options.substr(at, comma - at) == word) return true;
    at = comma + 1;
  }
  return false;
}

}  // namespace

bool takeAccessOption(std::string_view word, AccessPolicy& policy) {
  if (word == "noatime") {
    policy.when = When::kNever;
  } else if (word == "atime" || word == "relatime" || word == "nostrictatime") {
    policy.when = When::kRelative;
  } else if (word == "strictatime") {
    policy.when = When::kAlways;
  } else if (word == "nodiratime" || word == "diratime") {
    policy.directories = word == "diratime";
  } else {
    return false;
  }
  return true;
}

AccessPolicy accessPolicyOf(std::string_view mountOptions) {
  AccessPolicy policy;
  if (has(mountOptions, "ro") || has(mountOptions, "noatime"))
    policy.when = When::kNever;
  else if (!has(mountOptions, "relatime"))
    policy.when = When::kAlways;
  policy.directories = !has(mountOptions, "nodiratime");
  return policy;
}

Result<void> setAccessOptions(const std::string& directory, AccessPolicy policy) {
  mount_attr attributes{};
  attributes.attr_clr = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
  attributes.attr_set = policy.when == When::kNever    ? MOUNT_ATTR_NOATIME
                        : policy.when == When::kAlways ? MOUNT_ATTR_STRICTATIME
                                                       : MOUNT_ATTR_RELATIME;
  if (!policy.directories) attributes.attr_set |= MOUNT_ATTR_NODIRATIME;
  if (::mount_setattr(AT_FDCWD, directory.c_str(), 0, &attributes, sizeof attributes) == 0)
    return {};
  return fail(errnoError(errno, directory));
}

MountTableWatch::MountTableWatch(UringReactor& reactor, Filesystem& fs,
                                 const std::string& directory)
    : reactor_(reactor), fs_(fs), fd_(::open(kMountTable, O_RDONLY | O_CLOEXEC)) {
  auto mount = findMount([&](const MountLine& m) { return m.directory == directory; });
  if (!mount) return;
  id_ = std::move(mount->id);
  options_ = std::move(mount->options);
}

MountTableWatch::~MountTableWatch() {
  if (fd_ >= 0) ::close(fd_);
}

Task<void> MountTableWatch::run() {
  while (fd_ >= 0 && !id_.empty() && !ended_) {
    // The table says "priority" once for each time that it has changed.
    if (co_await reactor_.pollFd(fd_, POLLPRI) < 0 || ended_) co_return;
    auto mount = findMount([this](const MountLine& m) { return m.id == id_; });
    if (!mount || mount->options == options_) continue;
    options_ = std::move(mount->options);
    fs_.recordAccesses(accessPolicyOf(options_));
  }
}

void MountTableWatch::end() {
  ended_ = true;
  if (fd_ >= 0) reactor_.cancelPoll(fd_);
}

}  // namespace cairn::client
