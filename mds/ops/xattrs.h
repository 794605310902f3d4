// Extended attributes of one inode: the records, and the inode's count of them. Times and answers
// are the caller's.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mds/ops/acl.h"
#include "mds/ops/context.h"

namespace cairn::mds::ops {

Result<bool> hasXattr(OpContext& ctx, const Inode& inode, std::string_view name);
// kNoSpace: all names together above what listxattr(2) can show.
Result<void> putXattr(OpContext& ctx, Inode& inode, std::string_view name, std::string_view value);
// False if there was none.
Result<bool> dropXattr(OpContext& ctx, Inode& inode, std::string_view name);

// The list that is kept under one of the two names; nullopt: none.
Result<std::optional<Acl>> aclOf(OpContext& ctx, const Inode& inode, std::string_view name);
// Keeps the list, and the mode in step with an access list.
Result<void> setAccessAcl(OpContext& ctx, Inode& inode, const Acl& acl);
// chmod(2): the mode's permission bits, and the access list in step with them.
Result<void> setMode(OpContext& ctx, Inode& inode, uint32_t mode);
// For something new in `dir`: the mode that it gets, and its lists, if it inherits any. `umask`
// counts only where none are inherited.
Result<void> inheritAcl(OpContext& ctx, const Inode& dir, Inode& made, uint32_t umask);

}  // namespace cairn::mds::ops
