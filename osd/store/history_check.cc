#include "osd/store/history_check.h"

namespace cairn::osd {

namespace {
std::string nameOf(ChunkId chunk) {
  return "chunk " + std::to_string(chunk.value);
}
}  // namespace

void HistoryCheck::lookUp(ChunkId chunk, const ChunkHeader& header, bool removed) {
  const std::string key = keys::change(header.group, header.version, chunk);
  auto value = metadata_.get(key);
  if (!value) return problem_(nameOf(chunk) + ": " + value.error().message);
  auto flags = *value ? ChangeFlags::decode(key, **value) : std::nullopt;
  // entry() reports one that is damaged.
  if (!*value || (flags && flags->removed != removed))
    problem_(nameOf(chunk) + ": the history of " + osd::nameOf(header.group) +
             " does not have its last change, version " + std::to_string(header.version.value));
}

void HistoryCheck::removal(std::string_view key, std::string_view value) {
  auto chunk = keys::parseRemoved(key);
  if (!chunk) return problem_("the metadata has an entry of unknown kind");
  auto header = ChunkHeader::decode(key, value);
  if (!header || header->blocks != 0)
    return problem_(nameOf(*chunk) + ": what is left of its removal is damaged");
  lookUp(*chunk, *header, true);
}

void HistoryCheck::entry(std::string_view key, std::string_view value) {
  auto k = keys::parseChange(key);
  if (!k) return problem_("the metadata has an entry of unknown kind");
  const std::string what = "the history of " + osd::nameOf(k->group) + ", at version " +
                           std::to_string(k->version.value) + " of " + nameOf(k->chunk) + ",";
  auto flags = ChangeFlags::decode(key, value);
  if (!flags) return problem_(what + " is damaged");
  const std::string of = flags->removed ? keys::removed(k->chunk) : keys::header(k->chunk);
  auto stored = metadata_.get(of);
  if (!stored) return problem_(what + " names what cannot be read: " + stored.error().message);
  auto header = *stored ? ChunkHeader::decode(of, **stored) : std::nullopt;
  // A damaged header is reported where it lies.
  if (!*stored || (header && (header->version != k->version || header->group != k->group)))
    problem_(what + " is not the chunk's last change");
  const GroupState state = history_.state(k->group);
  if (state.last < k->version)
    problem_(what + " is newer than the group, whose last change is " +
             std::to_string(state.last.value));
  if (flags->removed && k->version <= state.trimmed)
    problem_(what + " is a removal, but those up to " + std::to_string(state.trimmed.value) +
             " were forgotten");
}

Result<void> HistoryCheck::rest() {
  return metadata_.scan(std::string(1, keys::kChunkPrefix + 1), [this](auto key, auto value) {
    switch (key.front()) {
      case keys::kGroupPrefix:  // History::load() has read it
        break;
      case keys::kChangePrefix:
        entry(key, value);
        break;
      case keys::kRemovedPrefix:
        removal(key, value);
        break;
      default:
        problem_("the metadata has an entry of unknown kind");
    }
    return true;
  });
}

}  // namespace cairn::osd
