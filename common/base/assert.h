// Broken invariants stop the process, in every build: a filesystem that continues past one loses
// data.
#pragma once

namespace cairn {
[[noreturn]] void invariantBroken(const char* condition, const char* file, int line,
                                  const char* why);
}

// CAIRN_ASSERT(condition, "which invariant this is")
#define CAIRN_ASSERT(cond, why)                                 \
  do {                                                          \
    if (!(cond)) [[unlikely]]                                   \
      ::cairn::invariantBroken(#cond, __FILE__, __LINE__, why); \
  } while (false)
