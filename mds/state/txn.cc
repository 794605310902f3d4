#include "mds/state/txn.h"

#include "mds/state/keys.h"

namespace cairn::mds {
namespace {

bool isCached(std::string_view key) {
  return !key.empty() && (key[0] == keys::kInode || key[0] == keys::kDentry);
}

}  // namespace

Error Txn::failed(Error error) {
  if (!failure_) failure_ = error;
  return error;
}

Result<std::optional<std::string>> Txn::get(std::string_view key) {
  if (auto it = pending_.find(key); it != pending_.end()) return it->second;
  const bool cached = isCached(key);
  if (cached)
    if (const auto* value = cache_.find(key)) return std::optional<std::string>(*value);
  auto value = kv_.get(key);
  if (!value) {
    if (value.error().code == Errc::kNotFound) return std::optional<std::string>();
    return fail(failed(std::move(value).error()));
  }
  if (cached) cache_.put(std::string(key), *value);
  return std::optional<std::string>(std::move(*value));
}

void Txn::put(std::string key, std::string value) {
  change(std::move(key), std::move(value));
}

void Txn::del(std::string key) {
  change(std::move(key), std::nullopt);
}

void Txn::change(std::string key, Value value) {
  auto [entry, isNew] = pending_.try_emplace(std::move(key));
  undo_.push_back({entry, !isNew, isNew ? std::nullopt : std::move(entry->second)});
  entry->second = std::move(value);
}

void Txn::rollback() {
  for (; !undo_.empty(); undo_.pop_back()) {
    auto& u = undo_.back();
    if (u.existed)
      u.entry->second = std::move(u.before);
    else
      pending_.erase(u.entry);
  }
}

Result<void> Txn::scan(std::string_view prefix, std::string_view from, const Visit& visit) {
  auto stored = kv_.iterate();
  stored->seek(from);
  auto pending = pending_.lower_bound(from);
  auto under = [&](std::string_view key) { return key.substr(0, prefix.size()) == prefix; };
  for (;;) {
    const bool haveStored = stored->valid() && under(stored->key());
    const bool havePending = pending != pending_.end() && under(pending->first);
    if (!haveStored && !havePending) break;
    if (havePending && (!haveStored || pending->first <= stored->key())) {
      if (haveStored && pending->first == stored->key()) stored->next();  // overwritten
      if (pending->second && !visit(pending->first, *pending->second)) return {};
      ++pending;
    } else {
      if (!visit(stored->key(), stored->value())) return {};
      stored->next();
    }
  }
  if (auto status = stored->status(); !status) return fail(failed(std::move(status).error()));
  return {};
}

Result<void> Txn::commit() {
  undo_.clear();
  if (pending_.empty()) return {};
  KvBatch batch;
  for (const auto& [key, value] : pending_) {
    if (value)
      batch.put(key, *value);
    else
      batch.del(key);
  }
  auto written = kv_.write(batch);
  if (!written) return fail(failed(std::move(written).error()));
  while (!pending_.empty()) {
    auto node = pending_.extract(pending_.begin());
    if (!isCached(node.key())) continue;
    if (node.mapped())
      cache_.put(std::move(node.key()), std::move(*node.mapped()));
    else
      cache_.erase(node.key());
  }
  return {};
}

}  // namespace cairn::mds
