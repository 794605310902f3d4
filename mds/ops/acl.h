// POSIX access control lists, acl(5), from POSIX 1003.1e draft 17 as Linux has it. They lie in the
// extended attributes system.posix_acl_access and system.posix_acl_default, in the bytes in which
// Linux passes them: u32 version 2, then for each entry u16 tag, u16 permissions, u32 id, all
// little-endian. The kernel of each mount enforces them; here they are kept in step with the mode.
//
// An access list says in USER_OBJ, GROUP_OBJ and OTHER what the mode says; where it has a MASK, the
// group bits of the mode are the mask. A list of those three alone says nothing more than the mode,
// and is not kept.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace cairn::mds::ops {

inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";

class Acl {
 public:
  // kInvalid: not a list that acl_valid(3) accepts; kNotSupported: another version.
  static Result<Acl> parse(std::string_view bytes);
  [[nodiscard]] std::string encode() const;

  // No entries: what Linux passes to remove a list.
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  // Says no more than its mode().
  [[nodiscard]] bool minimal() const { return entries_.size() == 3; }
  // The nine permission bits. Not of an empty list.
  [[nodiscard]] uint32_t mode() const;
  // chmod(2): the mode's bits become those of the list.
  void setMode(uint32_t mode);
  // As the access list of something new that its maker gives `mode`: permissions that the maker did
  // not ask for go.
  void limit(uint32_t mode);

 private:
  enum Tag : uint16_t {
    kUserObj = 0x01,
    kUser = 0x02,
    kGroupObj = 0x04,
    kGroup = 0x08,
    kMask = 0x10,
    kOther = 0x20,
  };
  struct Entry {
    uint16_t tag = 0, permissions = 0;
    uint32_t id = 0;
  };
  Entry& classEntry(uint32_t shift);
  [[nodiscard]] const Entry& classEntry(uint32_t shift) const;

  std::vector<Entry> entries_;
};

}  // namespace cairn::mds::ops
