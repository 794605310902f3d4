// The part of the offline checker that holds the history against the chunks: each chunk, and each
// removal that is remembered, has one entry in the index of its group; each entry has its chunk or
// removal; and each group's state covers its entries.
#pragma once

#include <functional>
#include <string>

#include "osd/store/history.h"
#include "osd/store/metadata.h"

namespace cairn::osd {

class HistoryCheck {
 public:
  using Problem = std::function<void(const std::string&)>;
  // `history` is loaded, and the log applied.
  HistoryCheck(Metadata& metadata, const History& history, Problem problem)
      : metadata_(metadata), history_(history), problem_(std::move(problem)) {}

  // Of each chunk that exists.
  void header(ChunkId chunk, const ChunkHeader& header) { lookUp(chunk, header, false); }
  // Everything in the metadata that is not of chunks that exist. kIo and kCorrupt of the database:
  // what lies behind cannot be reached.
  Result<void> rest();

 private:
  void lookUp(ChunkId chunk, const ChunkHeader& header, bool removed);
  void removal(std::string_view key, std::string_view value);
  void entry(std::string_view key, std::string_view value);

  Metadata& metadata_;
  const History& history_;
  Problem problem_;
};

}  // namespace cairn::osd
