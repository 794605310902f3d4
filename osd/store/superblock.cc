#include "osd/store/superblock.h"

#include <cstddef>
#include <optional>

#include "common/crc/crc32c.h"

namespace cairn::osd {

namespace {

constexpr char kMagic[8] = {'C', 'a', 'i', 'r', 'n', 'O', 'S', 'D'};
constexpr char kDeviceMagic[8] = {'C', 'a', 'i', 'r', 'n', 'D', 'E', 'V'};
constexpr uint32_t kVersion = 2;
constexpr uint32_t kDeviceVersion = 1;
constexpr uint64_t kKnownIncompat = 0;  // bits this program understands
constexpr size_t kMaxDevicePath = 1024;

struct Layout {
  char magic[8];
  uint32_t version;
  uint32_t blockBytes;
  uint64_t compat;    // an unknown bit: open anyway, keep it
  uint64_t incompat;  // an unknown bit: do not open
  Uuid store;
  Uuid cluster;
  uint64_t sizeBytes;
  uint64_t walOffset;
  uint64_t walBytes;
  uint64_t dataOffset;
  uint64_t dataBlocks;
  uint8_t reserved[kBlockSize - 108];
  uint32_t crc;  // of all before it
};
static_assert(sizeof(Layout) == kBlockSize && offsetof(Layout, store) == 32 &&
              offsetof(Layout, sizeBytes) == 64 && offsetof(Layout, reserved) == 104 &&
              offsetof(Layout, crc) == kBlockSize - 4);

struct DeviceRecord {
  char magic[8];
  uint32_t version;
  uint32_t pathBytes;
  char path[kMaxDevicePath];
  uint8_t reserved[kBlockSize - 20 - kMaxDevicePath];
  uint32_t crc;
};
static_assert(sizeof(DeviceRecord) == kBlockSize);

template <class T>
void seal(T& layout, MutBytes block) {
  layout.crc = crc32c(Bytes(reinterpret_cast<const uint8_t*>(&layout), offsetof(T, crc)));
  std::memcpy(block.data(), &layout, sizeof layout);
}

}  // namespace

Result<Superblock> planLayout(uint64_t sizeBytes, uint64_t walBytes, bool onDevice) {
  if (walBytes < kMinWalBytes || walBytes % kBlockSize != 0)
    return fail(Errc::kInvalid, "the log of a store needs at least " +
                                    std::to_string(kMinWalBytes / kMiB) +
                                    " MiB, in multiples of 4 KiB; " + std::to_string(walBytes) +
                                    " bytes were asked for");
  if (sizeBytes < kHeadBytes + walBytes + kMinDataBlocks * kBlockSize)
    return fail(Errc::kInvalid, "a store of " + std::to_string(sizeBytes / kMiB) +
                                    " MiB has no room for data beside a log of " +
                                    std::to_string(walBytes / kMiB) +
                                    " MiB: make the store larger or its log smaller");
  Superblock s;
  s.walBytes = walBytes;
  s.walOffset = onDevice ? kHeadBytes : 0;
  s.sizeBytes = onDevice ? sizeBytes : sizeBytes - walBytes;
  s.dataOffset = onDevice ? kHeadBytes + walBytes : kHeadBytes;
  s.dataBlocks = (s.sizeBytes - s.dataOffset) / kBlockSize;
  if (s.dataBlocks > kMaxPhysBlocks) return fail(Errc::kTooBig, "a store has at most 2^60 bytes");
  return s;
}

namespace {
bool partsFollow(const Superblock& s) {
  const uint64_t head = kSuperblockCopies * kBlockSize;
  if (s.walOffset % kBlockSize != 0 || s.walBytes % kBlockSize != 0 ||
      s.dataOffset % kBlockSize != 0 || s.walBytes < kMinWalBytes ||
      s.sizeBytes > kMaxPhysBlocks * kBlockSize || s.walBytes > kMaxPhysBlocks * kBlockSize ||
      s.walOffset > s.sizeBytes || s.dataOffset > s.sizeBytes)
    return false;
  bool logFits = s.ownLogFile() ? s.dataOffset >= head
                                : s.walOffset >= head && s.walOffset + s.walBytes <= s.dataOffset;
  return logFits && s.dataBlocks <= (s.sizeBytes - s.dataOffset) / kBlockSize;
}
}  // namespace

void encodeSuperblock(const Superblock& s, MutBytes block) {
  CAIRN_ASSERT(block.size() == kBlockSize, "a superblock is one block");
  CAIRN_ASSERT(partsFollow(s), "the parts of a store follow each other inside it");
  Layout l{};
  std::memcpy(l.magic, kMagic, sizeof kMagic);
  l.version = kVersion;
  l.blockBytes = kBlockSize;
  l.store = s.store;
  l.cluster = s.cluster;
  l.sizeBytes = s.sizeBytes;
  l.walOffset = s.walOffset;
  l.walBytes = s.walBytes;
  l.dataOffset = s.dataOffset;
  l.dataBlocks = s.dataBlocks;
  seal(l, block);
}

Result<Superblock> decodeSuperblock(Bytes block, const std::string& where) {
  Layout l;
  std::memcpy(&l, block.data(), sizeof l);
  if (std::memcmp(l.magic, kMagic, sizeof kMagic) != 0)
    return fail(Errc::kNotFound, where + " is not the superblock of a chunk store");
  if (crc32c(block.first(offsetof(Layout, crc))) != l.crc)
    return fail(Errc::kCorrupt, where + " is damaged");
  if (l.version < kVersion)
    return fail(Errc::kVersion,
                where + " has format version " + std::to_string(l.version) +
                    ", of a release before placement groups had histories; this program knows "
                    "version " +
                    std::to_string(kVersion) +
                    ": start the older cairn-osd, or remove the store and create a new one, which "
                    "the cluster fills");
  if (l.version > kVersion || (l.incompat & ~kKnownIncompat) != 0)
    return fail(Errc::kVersion, where + " has format version " + std::to_string(l.version) +
                                    " with features " + std::to_string(l.incompat) +
                                    "; this program knows version " + std::to_string(kVersion) +
                                    " and features " + std::to_string(kKnownIncompat) +
                                    ": start the newer cairn-osd that made it");
  Superblock s{l.store,    l.cluster,    l.sizeBytes, l.walOffset,
               l.walBytes, l.dataOffset, l.dataBlocks};
  bool sane = l.blockBytes == kBlockSize && partsFollow(s);
  if (!sane) return fail(Errc::kCorrupt, where + " describes an impossible layout");
  return s;
}

Task<Result<void>> writeSuperblocks(Env& env, File& file, const Superblock& superblock) {
  Buffer block = env.buffers.get(kBlockSize);
  encodeSuperblock(superblock, block.bytes());
  for (uint64_t i = 0; i < kSuperblockCopies; ++i) {
    std::vector<Buffer> parts(1, block);
    CO_TRY(co_await file.write(std::move(parts), i * kBlockSize, true));
  }
  co_return {};
}

Task<Result<Superblock>> readSuperblock(Env& env, File& file, const std::string& path,
                                        std::optional<Error>* damage) {
  Buffer block = env.buffers.get(kBlockSize);
  std::optional<Superblock> good;
  std::optional<Error> bad;
  for (uint64_t i = 0; i < kSuperblockCopies; ++i) {
    std::string where = "superblock " + std::to_string(i) + " of " + path;
    auto read = co_await file.read(block, i * kBlockSize);
    auto s = read ? decodeSuperblock(block.bytes(), where)
                  : Result<Superblock>(fail(std::move(read).error()));
    if (!s) {
      // A newer format is the answer even when the other copy looks like ours; damage tells more
      // than absence.
      if (s.error().code == Errc::kVersion) co_return fail(std::move(s).error());
      if (!bad || bad->code == Errc::kNotFound) bad = std::move(s).error();
    } else if (!good) {
      good = *s;
    } else if (*good != *s) {
      co_return fail(Errc::kCorrupt, "the two superblocks of " + path + " disagree");
    }
  }
  if (!good) co_return fail(std::move(*bad));
  if (good->sizeBytes > file.size())
    co_return fail(Errc::kCorrupt, path + " has " + std::to_string(file.size()) +
                                       " bytes, but the store in it was made with " +
                                       std::to_string(good->sizeBytes) +
                                       ": it was truncated, or this is another device");
  if (damage) *damage = std::move(bad);
  co_return *good;
}

void encodeDeviceRecord(const std::string& device, MutBytes block) {
  CAIRN_ASSERT(block.size() == kBlockSize && device.size() <= kMaxDevicePath,
               "a device record is one block");
  DeviceRecord r{};
  std::memcpy(r.magic, kDeviceMagic, sizeof kDeviceMagic);
  r.version = kDeviceVersion;
  r.pathBytes = static_cast<uint32_t>(device.size());
  std::memcpy(r.path, device.data(), device.size());
  seal(r, block);
}

std::optional<std::string> decodeDeviceRecord(Bytes block) {
  DeviceRecord r;
  std::memcpy(&r, block.data(), sizeof r);
  if (std::memcmp(r.magic, kDeviceMagic, sizeof kDeviceMagic) != 0 ||
      r.crc != crc32c(block.first(offsetof(DeviceRecord, crc))) || r.pathBytes > kMaxDevicePath)
    return std::nullopt;
  return std::string(r.path, r.pathBytes);
}

}  // namespace cairn::osd
