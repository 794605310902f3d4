// The changes of one group of commands, over the database: reads see them, commit() writes them as
// one atomic batch, and those of a command that fails are taken back by rollback(). One thread;
// owned by the state machine, alive as long as it.
//
// Durable: nothing before Kv::sync().
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/kv/kv.h"
#include "mds/state/point_cache.h"

namespace cairn::mds {

class Txn {
 public:
  // `kv` outlives it.
  Txn(Kv& kv, size_t cacheBytes) : kv_(kv), cache_(cacheBytes) {}

  // nullopt: no such key.
  Result<std::optional<std::string>> get(std::string_view key);
  void put(std::string key, std::string value);
  void del(std::string key);
  // Calls `visit` for each pair from `from` on whose key starts with `prefix`, in order, until it
  // returns false. `visit` must not change the transaction: collect, then change.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  Result<void> scan(std::string_view prefix, std::string_view from, const Visit& visit);

  // What was put or deleted since mark() is forgotten by rollback().
  void mark() { undo_.clear(); }
  void rollback();
  // Writes the batch. After a failure the transaction is unusable.
  Result<void> commit();

  // The first failure of the database, if there was one: no answer that came after it counts.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

 private:
  using Value = std::optional<std::string>;  // nullopt: deleted
  using Pending = std::map<std::string, Value, std::less<>>;
  struct Undo {
    Pending::iterator entry;
    bool existed;
    Value before;
  };

  void change(std::string key, Value value);
  Error failed(Error error);

  Kv& kv_;
  PointCache cache_;
  Pending pending_;
  std::vector<Undo> undo_;
  std::optional<Error> failure_;
};

}  // namespace cairn::mds
