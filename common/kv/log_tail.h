// Finds where a LevelDB log (or MANIFEST) ends that power loss left with a zero-filled tail.
//
// Log format (LevelDB doc/log_format.md): blocks of 32 KiB; records of crc (4, masked CRC32C of
// type and payload), length (2), type (1), payload; a record does not cross a block, a logical
// record is FULL or FIRST MIDDLE* LAST.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace cairn {

// The offset to cut `log` at: the start of the first logical record that the zero-filled tail
// tears. nullopt when there is nothing to cut, or when the first bad record does not touch the
// tail: that is damage, and is for LevelDB to report.
std::optional<size_t> tornLogTail(std::string_view log);

}  // namespace cairn
