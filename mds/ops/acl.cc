#include "mds/ops/acl.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"

namespace cairn::mds::ops {
namespace {

constexpr uint32_t kVersion = 2;  // POSIX_ACL_XATTR_VERSION
constexpr size_t kHeaderBytes = 4, kEntryBytes = 8;
constexpr uint32_t kUndefinedId = ~0u;  // of the entries that name nobody
// Where the mode has the bits of each class.
constexpr uint32_t kOwnerShift = 6, kGroupShift = 3, kOtherShift = 0;

template <typename T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (sizeof value == 2)
    return le16toh(value);
  else
    return le32toh(value);
}

void append(std::string& to, uint16_t value) {
  value = htole16(value);
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void append(std::string& to, uint32_t value) {
  value = htole32(value);
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

Result<Acl> Acl::parse(std::string_view bytes) {
  auto invalid = [](const char* why) {
    return fail(Errc::kInvalid, std::string("not an access control list: ") + why);
  };
  if (bytes.size() < kHeaderBytes || (bytes.size() - kHeaderBytes) % kEntryBytes != 0)
    return invalid("its size");
  if (load<uint32_t>(bytes.data()) != kVersion)
    return fail(Errc::kNotSupported, "an access control list of another version");
  Acl acl;
  for (size_t at = kHeaderBytes; at < bytes.size(); at += kEntryBytes) {
    const char* p = bytes.data() + at;
    Entry e{load<uint16_t>(p), load<uint16_t>(p + 2), load<uint32_t>(p + 4)};
    if (e.permissions > 7) return invalid("its permissions");
    const bool named = e.tag == kUser || e.tag == kGroup;
    if (named && e.id == kUndefinedId) return invalid("an entry for nobody");
    if (!named) e.id = kUndefinedId;
    acl.entries_.push_back(e);
  }
  if (acl.entries_.empty()) return acl;
  // In the order of the tags' values, each of the unnamed at most once.
  size_t counts[kOther + 1] = {};
  uint16_t before = 0;
  for (const Entry& e : acl.entries_) {
    switch (e.tag) {
      case kUserObj:
      case kUser:
      case kGroupObj:
      case kGroup:
      case kMask:
      case kOther:
        break;
      default:
        return invalid("its tags");
    }
    if (e.tag < before) return invalid("the order of its entries");
    before = e.tag;
    ++counts[e.tag];
  }
  if (counts[kUserObj] != 1 || counts[kGroupObj] != 1 || counts[kOther] != 1 || counts[kMask] > 1)
    return invalid("it needs one entry for each of owner, group and others, and at most one mask");
  if (counts[kUser] + counts[kGroup] > 0 && counts[kMask] == 0)
    return invalid("with named entries it needs a mask");
  return acl;
}

std::string Acl::encode() const {
  std::string out;
  out.reserve(kHeaderBytes + entries_.size() * kEntryBytes);
  append(out, kVersion);
  for (const Entry& e : entries_) {
    append(out, e.tag);
    append(out, e.permissions);
    append(out, e.id);
  }
  return out;
}

// The entry that the mode's bits of a class stand for.
const Acl::Entry& Acl::classEntry(uint32_t shift) const {
  auto of = [this](uint16_t tag) {
    return std::ranges::find(entries_, tag, [](const Entry& e) { return e.tag; });
  };
  auto at = of(shift == kOwnerShift ? kUserObj : shift == kOtherShift ? kOther : kMask);
  if (at == entries_.end()) at = of(kGroupObj);
  CAIRN_ASSERT(at != entries_.end(), "a list that was parsed has an entry for each class");
  return *at;
}
Acl::Entry& Acl::classEntry(uint32_t shift) {
  return const_cast<Entry&>(std::as_const(*this).classEntry(shift));
}

uint32_t Acl::mode() const {
  uint32_t mode = 0;
  for (uint32_t shift : {kOwnerShift, kGroupShift, kOtherShift})
    mode |= uint32_t{classEntry(shift).permissions} << shift;
  return mode;
}

void Acl::setMode(uint32_t mode) {
  for (uint32_t shift : {kOwnerShift, kGroupShift, kOtherShift})
    classEntry(shift).permissions = static_cast<uint16_t>(mode >> shift & 7);
}

void Acl::limit(uint32_t mode) {
  setMode(this->mode() & mode);
}

}  // namespace cairn::mds::ops
