#include "common/disk/uring_disk.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "common/disk/open_direct.h"
#include "test/unit/common/disk/scratch_dir.h"
#include "test/unit/common/reactor/make_reactor.h"

using namespace cairn;

namespace {

struct DiskFixture {
  BufferPool buffers;
  std::unique_ptr<UringReactor> reactor = makeReactor();
  UringDisk disk{*reactor};
  ScratchDir dir;

  Buffer random(size_t size, uint64_t seed) {
    Buffer b = buffers.get(size);
    SeededRandom r(seed);
    for (auto& byte : b.bytes()) byte = static_cast<uint8_t>(r.next());
    return b;
  }
  Result<std::unique_ptr<File>> open(const std::string& path, OpenOptions options) {
    return reactor->run(disk.open(path, options));
  }
};

bool same(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

bool allZero(const Buffer& b) {
  for (auto byte : b.bytes())
    if (byte != 0) return false;
  return true;
}

std::vector<Buffer> partsOf(Buffer a) {
  std::vector<Buffer> v;
  v.push_back(std::move(a));
  return v;
}

Task<void> readBackBody(DiskFixture& f, File& file) {
  // One part, parts that lie side by side, and more scattered parts than fit without allocation.
  Buffer one = f.random(kMiB, 1);
  CHECK(co_await file.write(partsOf(one), 0, false));
  Buffer pair = f.random(64 * kKiB, 2);
  std::vector<Buffer> neighbours;
  neighbours.push_back(pair.slice(0, 16 * kKiB));
  neighbours.push_back(pair.slice(16 * kKiB, 48 * kKiB));
  CHECK(co_await file.write(neighbours, kMiB, true));
  std::vector<Buffer> many;
  for (uint64_t i = 0; i < 40; ++i) many.push_back(f.random((1 + i % 3) * kBlockSize, 100 + i));
  CHECK(co_await file.write(many, 2 * kMiB, true));
  CHECK(co_await file.sync());

  Buffer in = f.buffers.get(kMiB);
  CHECK(co_await file.read(in, 0));
  CHECK(same(in, one));
  Buffer in2 = f.buffers.get(64 * kKiB);
  CHECK(co_await file.read(in2, kMiB));
  CHECK(same(in2, pair));
  uint64_t at = 2 * kMiB;
  for (const auto& part : many) {
    Buffer got = f.buffers.get(part.size());
    CHECK(co_await file.read(got, at));
    CHECK(same(got, part));
    at += part.size();
  }
}

Task<void> writeOne(File& file, Buffer b, uint64_t offset, Result<void>& out) {
  out = co_await file.write(partsOf(std::move(b)), offset, false);
}

}  // namespace

TEST_CASE("what was written is read back, in one part or many") {
  DiskFixture f;
  auto file = f.open(f.dir.path("data"), {.createBytes = 8 * kMiB});
  REQUIRE(file);
  CHECK((*file)->size() == 8 * kMiB);
  f.reactor->run(readBackBody(f, **file));
}

TEST_CASE("what was written is there after closing and opening, and seen by others") {
  DiskFixture f;
  Buffer out = f.random(kMiB, 7);
  {
    auto file = f.open(f.dir.path("data"), {.createBytes = 4 * kMiB, .zeroBytes = 2 * kMiB});
    REQUIRE(file);
    CHECK(f.reactor->run((*file)->write(partsOf(out), kMiB, true)));
  }
  auto file = f.open(f.dir.path("data"), {.writable = false});
  REQUIRE(file);
  CHECK((*file)->size() == 4 * kMiB);
  Buffer in = f.buffers.get(kMiB);
  CHECK(f.reactor->run((*file)->read(in, kMiB)));
  CHECK(same(in, out));
  CHECK(f.reactor->run((*file)->read(in, 0)));
  CHECK(allZero(in));
  auto refused = f.reactor->run((*file)->write(partsOf(out), 0, false));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kReadOnly);
}

TEST_CASE("many writes in flight all arrive") {
  static constexpr auto body = [](DiskFixture& f, File& file) -> Task<void> {
    constexpr size_t kWrites = 2048;  // more than the submission queue holds
    std::vector<Result<void>> results(kWrites, fail(Errc::kInvalid));
    std::vector<Task<void>> tasks;
    for (size_t i = 0; i < kWrites; ++i) {
      Buffer b = f.buffers.get(kBlockSize);
      std::memset(b.data(), static_cast<int>(i % 251), b.size());
      tasks.push_back(writeOne(file, b, i * kBlockSize, results[i]));
    }
    co_await whenAll(*f.reactor, std::move(tasks));
    Buffer in = f.buffers.get(kWrites * kBlockSize);
    CHECK(co_await file.read(in, 0));
    size_t wrong = 0;
    for (size_t i = 0; i < kWrites; ++i) {
      if (!results[i]) ++wrong;
      if (in.data()[i * kBlockSize] != i % 251) ++wrong;
      if (in.data()[(i + 1) * kBlockSize - 1] != i % 251) ++wrong;
    }
    CHECK(wrong == 0);
  };
  DiskFixture f;
  auto file = f.open(f.dir.path("data"), {.createBytes = 8 * kMiB});
  REQUIRE(file);
  f.reactor->run(body(f, **file));
}

TEST_CASE("reads and writes past the end are refused and change nothing") {
  DiskFixture f;
  auto file = f.open(f.dir.path("data"), {.createBytes = 64 * kKiB});
  REQUIRE(file);
  Buffer b = f.buffers.zeroed(8 * kKiB);
  for (uint64_t offset : {60 * kKiB, 64 * kKiB, uint64_t{1} << 62}) {
    auto r = f.reactor->run((*file)->read(b, offset));
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Errc::kInvalid);
    auto w = f.reactor->run((*file)->write(partsOf(b), offset, false));
    REQUIRE_FALSE(w);
    CHECK(w.error().code == Errc::kInvalid);
  }
  CHECK(std::filesystem::file_size(f.dir.path("data")) == 64 * kKiB);
}

TEST_CASE("a file that was made shorter behind our back is no endless read") {
  DiskFixture f;
  auto file = f.open(f.dir.path("data"), {.createBytes = 64 * kKiB});
  REQUIRE(file);
  std::filesystem::resize_file(f.dir.path("data"), 8 * kKiB);
  auto r = f.reactor->run((*file)->read(f.buffers.get(16 * kKiB), 0));
  REQUIRE_FALSE(r);
  CHECK(r.error().code == Errc::kInvalid);
}

TEST_CASE("a created file has all its space, and creating it twice is kExists") {
  DiskFixture f;
  REQUIRE(f.open(f.dir.path("data"), {.createBytes = 4 * kMiB}));
  struct stat st{};
  REQUIRE(::stat(f.dir.path("data").c_str(), &st) == 0);
  CHECK(static_cast<uint64_t>(st.st_blocks) * 512 >= 4 * kMiB);
  CHECK((st.st_mode & 077) == 0);
  auto again = f.open(f.dir.path("data"), {.createBytes = kMiB});
  REQUIRE_FALSE(again);
  CHECK(again.error().code == Errc::kExists);
  CHECK(std::filesystem::file_size(f.dir.path("data")) == 4 * kMiB);
}

TEST_CASE("an exclusive file is opened once, by whichever process") {
  DiskFixture f;
  auto first = f.open(f.dir.path("data"), {.createBytes = kMiB});
  REQUIRE(first);
  auto second = f.open(f.dir.path("data"), {});
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kBusy);
  CHECK(second.error().message.find("in use by another process") != std::string::npos);
  // Who does not ask for exclusion gets in: the offline checker's business.
  CHECK(f.open(f.dir.path("data"), {.writable = false, .exclusive = false}));
  first->reset();
  CHECK(f.open(f.dir.path("data"), {}));
}

TEST_CASE("no space: the error tells how much there is, and nothing is left behind") {
  DiskFixture f;
  auto file = f.open(f.dir.path("data"), {.createBytes = uint64_t{1} << 50});
  REQUIRE_FALSE(file);
  CHECK((file.error().code == Errc::kNoSpace || file.error().code == Errc::kTooBig));
  CHECK(file.error().message.find("1048576.0 GiB") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(f.dir.path("data")));
}

TEST_CASE("a small file system that fills up refuses the file and keeps none of it") {
  DiskFixture f;
  std::string mount = f.dir.path("small");
  std::filesystem::create_directory(mount);
  if (::mount("none", mount.c_str(), "tmpfs", 0, "size=1m") != 0) {
    MESSAGE("skipped: cannot mount a tmpfs: ", std::string(std::strerror(errno)));
    return;
  }
  auto file = f.open(mount + "/data", {.createBytes = 2 * kMiB});
  REQUIRE_FALSE(file);
  if (file.error().code == Errc::kNotSupported)
    MESSAGE("tmpfs has no direct I/O on this kernel: ", file.error().message);
  else
    CHECK(file.error().code == Errc::kNoSpace);
  CHECK(std::filesystem::is_empty(mount));
  CHECK(::umount(mount.c_str()) == 0);
}

TEST_CASE("a file system without direct I/O is named, and what to use instead") {
  DiskFixture f;
  auto file = f.open("/proc/version", {.writable = false, .exclusive = false});
  REQUIRE_FALSE(file);
  CHECK(file.error().code == Errc::kNotSupported);
  CHECK(file.error().message.find("procfs") != std::string::npos);
  CHECK(file.error().message.find("ext4, xfs or btrfs") != std::string::npos);

  // The kernel has made the file by the time it refuses it.
  std::string mount = f.dir.path("ram");
  std::filesystem::create_directory(mount);
  if (::mount("none", mount.c_str(), "ramfs", 0, nullptr) != 0) {
    MESSAGE("skipped: cannot mount a ramfs: ", std::string(std::strerror(errno)));
    return;
  }
  auto made = f.open(mount + "/data", {.createBytes = kMiB});
  REQUIRE_FALSE(made);
  CHECK(made.error().code == Errc::kNotSupported);
  CHECK(made.error().message.find("ramfs") != std::string::npos);
  CHECK(std::filesystem::is_empty(mount));
  CHECK(::umount(mount.c_str()) == 0);
}

TEST_CASE("what cannot be opened says why") {
  DiskFixture f;
  auto none = f.open(f.dir.path("none"), {});
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::kNotFound);
  auto directory = f.open(f.dir.path(""), {});
  REQUIRE_FALSE(directory);
  CHECK(directory.error().code == Errc::kInvalid);
  auto noParent = f.open(f.dir.path("a/b"), {.createBytes = kMiB});
  REQUIRE_FALSE(noParent);
  CHECK(noParent.error().code == Errc::kNotFound);
  CHECK(noParent.error().message.find("Create the directory") != std::string::npos);
}

TEST_CASE("a block device is read, written, measured and held alone") {
  DiskFixture f;
  REQUIRE(f.open(f.dir.path("image"), {.createBytes = 8 * kMiB}));
  int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  int number = control < 0 ? -1 : ::ioctl(control, LOOP_CTL_GET_FREE);
  std::string path = "/dev/loop" + std::to_string(number);
  int loop = number < 0 ? -1 : ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  int image = ::open(f.dir.path("image").c_str(), O_RDWR | O_CLOEXEC);
  bool attached = loop >= 0 && ::ioctl(loop, LOOP_SET_FD, image) == 0;
  std::string why = std::strerror(errno);
  if (control >= 0) ::close(control);
  ::close(image);
  if (!attached) {
    MESSAGE("skipped: no loop device (", why, "); this needs root and the loop driver");
    if (loop >= 0) ::close(loop);
    return;
  }
  {
    auto file = f.open(path, {});
    REQUIRE(file);
    CHECK((*file)->size() == 8 * kMiB);
    f.reactor->run(readBackBody(f, **file));
    auto second = f.open(path, {});
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::kBusy);
    CHECK(second.error().message.find("in use by another process") != std::string::npos);
    auto made = f.open(path, {.createBytes = kMiB});
    REQUIRE_FALSE(made);
    CHECK(made.error().code == Errc::kExists);
  }
  ::ioctl(loop, LOOP_CLR_FD);
  ::close(loop);
}

TEST_CASE("reads and writes work with registered memory as without") {
  DiskFixture f;
  BufferPool pool(64 << 20, 4 << 20);
  if (!f.reactor->registerArena(pool.arena())) {
    MESSAGE("skipped: this process may not lock 4 MiB (ulimit -l)");
    return;
  }
  Buffer part = pool.get(64 * kKiB);
  CHECK(f.reactor->isRegistered(part.data(), part.size()));
  CHECK_FALSE(f.reactor->isRegistered(pool.arena().data() + pool.arena().size() - 1, 2));
  Buffer outside = f.buffers.get(64 * kKiB);
  CHECK_FALSE(f.reactor->isRegistered(outside.data(), outside.size()));

  auto file = f.open(f.dir.path("data"), {.createBytes = 8 * kMiB});
  REQUIRE(file);
  Buffer expected = f.random(64 * kKiB, 3);
  std::memcpy(part.data(), expected.data(), part.size());
  // A slice from the middle, written registered, read back both ways.
  CHECK(f.reactor->run((*file)->write(partsOf(part.slice(8 * kKiB, 16 * kKiB)), kMiB, true)));
  CHECK(f.reactor->run((*file)->read(outside.slice(0, 16 * kKiB), kMiB)));
  CHECK(std::memcmp(outside.data(), expected.data() + 8 * kKiB, 16 * kKiB) == 0);
  std::memset(part.data(), 0, part.size());
  CHECK(f.reactor->run((*file)->read(part.slice(32 * kKiB, 16 * kKiB), kMiB)));
  CHECK(std::memcmp(part.data() + 32 * kKiB, expected.data() + 8 * kKiB, 16 * kKiB) == 0);
  CHECK(part.data()[32 * kKiB - 1] == 0);
  CHECK(part.data()[48 * kKiB] == 0);
}

TEST_CASE("file systems are known by name or number") {
  CHECK(fileSystemName(0xef53) == "ext4");
  CHECK(fileSystemName(0x1234) == "a file system of type 0x1234");
}
