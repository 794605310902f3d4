// A directory on a file system that takes O_DIRECT, gone at the end of the test.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/assert.h"

namespace cairn {

class ScratchDir {
 public:
  ScratchDir() {
    for (std::string base : {std::filesystem::temp_directory_path().string(),
                             std::string("/var/tmp"), std::string(".")}) {
      std::string name = base + "/cairn-test-XXXXXX";
      if (::mkdtemp(name.data()) == nullptr) continue;
      path_ = name;
      int fd = ::open((path_ + "/probe").c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
      if (fd >= 0) {
        ::close(fd);
        std::filesystem::remove(path_ + "/probe");
        return;
      }
      std::filesystem::remove_all(path_);
    }
    CAIRN_ASSERT(false, "there is a directory with direct I/O for tests");
  }
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace cairn
