// A Stream whose input is a byte string handed out in pieces, and whose output is kept.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "common/net/network.h"

namespace cairn::test {

class ByteStream final : public Stream {
 public:
  // Pieces are at most `piece` bytes.
  ByteStream(std::string input, size_t piece) : input_(std::move(input)), piece_(piece) {}
  std::string written;

  Task<Result<size_t>> read(std::span<const iovec> parts) override {
    size_t left = std::min(piece_, input_.size() - at_), got = 0;
    for (const auto& p : parts) {
      size_t n = std::min(left, p.iov_len);
      if (n != 0) std::memcpy(p.iov_base, input_.data() + at_, n);
      at_ += n;
      left -= n;
      got += n;
    }
    co_return got;
  }
  Task<Result<void>> write(std::span<const iovec> parts) override {
    for (const auto& p : parts) written.append(static_cast<const char*>(p.iov_base), p.iov_len);
    co_return Result<void>{};
  }
  void shutdown() override { at_ = input_.size(); }
  [[nodiscard]] std::string peer() const override { return "test"; }

 private:
  std::string input_;
  size_t piece_, at_ = 0;
};

// Runs a task that never really waits.
template <class T>
T runNow(Task<T> task) {
  struct Driver {
    struct promise_type {
      Driver get_return_object() {
        return {std::coroutine_handle<promise_type>::from_promise(*this)};
      }
      std::suspend_always initial_suspend() noexcept { return {}; }
      std::suspend_always final_suspend() noexcept { return {}; }
      void return_void() {}
      void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
    static Driver drive(Task<T> t, std::optional<T>& out) { out.emplace(co_await std::move(t)); }
  };
  std::optional<T> out;
  Driver d = Driver::drive(std::move(task), out);
  d.handle.resume();
  CAIRN_ASSERT(d.handle.done(), "the task did not wait");
  d.handle.destroy();
  return std::move(*out);
}

}  // namespace cairn::test
