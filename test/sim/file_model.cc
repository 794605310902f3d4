#include "test/sim/file_model.h"

#include <algorithm>

namespace cairn::sim::test {

std::string FileModel::read(uint64_t offset, uint64_t length) const {
  if (offset >= size_) return {};
  std::string out(std::min(length, size_ - offset), '\0');
  const uint64_t from = std::max(offset, base_);
  if (from < offset + out.size())
    bytes_.copy(out.data() + (from - offset), offset + out.size() - from, from - base_);
  return out;
}

void FileModel::resize(uint64_t size) {
  size_ = size;
  bytes_.resize(size > base_ ? size - base_ : 0);
}

void FileModel::write(uint64_t offset, const std::string& data) {
  extend(offset + data.size());
  bytes_.replace(offset - base_, data.size(), data);
  layers_.push_back({offset, offset + data.size(), data, false});
}

void FileModel::written(uint64_t offset, const std::string& data) {
  layers_.push_back({offset, offset + data.size(), data, true});
  sizeLow_ = std::max(sizeLow_, offset + data.size());
}

void FileModel::truncate(uint64_t size) {
  resize(size);
  layers_.push_back({std::max(size, base_), UINT64_MAX, {}, false});
  sizeLow_ = std::min(sizeLow_, size);
  sizeHigh_ = std::max(sizeHigh_, size);
}

void FileModel::truncated(uint64_t size) {
  layers_.push_back({std::max(size, base_), UINT64_MAX, {}, true});
  sizeLow_ = sizeHigh_ = size;
}

void FileModel::zero(uint64_t offset, uint64_t length) {
  if (offset < size_) {
    const uint64_t n = std::min(length, size_ - offset);
    bytes_.replace(offset - base_, n, n, '\0');
  }
  layers_.push_back({offset, offset + length, {}, false});
}

void FileModel::extend(uint64_t size) {
  if (size > size_) resize(size);
  sizeHigh_ = std::max(sizeHigh_, size_);
}

void FileModel::synced() {
  stable_ = bytes_;
  layers_.clear();
  sizeLow_ = sizeHigh_ = size_;
}

std::string FileModel::adopt(uint64_t size, std::string found) {
  if (size < sizeLow_ || size > sizeHigh_)
    return "its size is " + std::to_string(size) + ", not in " + std::to_string(sizeLow_) + ".." +
           std::to_string(sizeHigh_);
  if (found.size() != (size > base_ ? size - base_ : 0)) return "a short read";
  std::vector<bool> right(found.size());
  for (size_t i = 0; i < found.size(); ++i)
    right[i] = found[i] == (i < stable_.size() ? stable_[i] : '\0');
  for (const Layer& l : layers_)
    for (uint64_t at = l.from, end = std::min(l.to, base_ + found.size()); at < end; ++at) {
      const bool equal = found[at - base_] == l.at(at);
      right[at - base_] = equal || (right[at - base_] && !l.certain);
    }
  if (auto bad = std::ranges::find(right, false); bad != right.end()) {
    const auto at = static_cast<uint64_t>(bad - right.begin());
    return "byte " + std::to_string(base_ + at) + " of " + std::to_string(size) + " is " +
           std::to_string(static_cast<uint8_t>(found[at])) +
           ", which was never written there, or is older than what was made durable (" +
           std::to_string(std::ranges::count(right, false)) + " such bytes)";
  }
  size_ = size;
  bytes_ = std::move(found);
  synced();
  return {};
}

}  // namespace cairn::sim::test
