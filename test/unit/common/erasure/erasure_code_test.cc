#include "common/erasure/erasure_code.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <thread>

#include <doctest/doctest.h>

#include "test/unit/common/erasure/stripe.h"

using namespace cairn;
using namespace cairn::test;

namespace {

ShardSet allShards(const ErasureCode& code) {
  return (ShardSet{1} << code.shards()) - 1;
}

// Calls fn(lost) for every set of 1 to m shards.
template <class Fn>
void forEachLoss(const ErasureCode& code, Fn fn) {
  for (ShardSet lost = 1; lost <= allShards(code); ++lost)
    if (static_cast<unsigned>(std::popcount(lost)) <= code.parityShards()) fn(lost);
}

// Calls fn(part) for every part of `set` that is not empty.
template <class Fn>
void forEachPart(ShardSet set, Fn fn) {
  for (ShardSet part = set; part != 0; part = (part - 1) & set) fn(part);
}

// Memory between two pages that nobody may touch.
class FencedMemory {
 public:
  static constexpr size_t kPageBytes = 4096, kBytes = 2 * kPageBytes;

  FencedMemory() {
    void* at =
        mmap(nullptr, kBytes + 2 * kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(at != MAP_FAILED);
    begin_ = static_cast<uint8_t*>(at) + kPageBytes;
    REQUIRE(mprotect(begin_, kBytes, PROT_READ | PROT_WRITE) == 0);
  }
  ~FencedMemory() { munmap(begin_ - kPageBytes, kBytes + 2 * kPageBytes); }
  FencedMemory(const FencedMemory&) = delete;
  FencedMemory& operator=(const FencedMemory&) = delete;

  // The first or the last `length` bytes, the rest painted.
  uint8_t* place(size_t length, bool atEnd) {
    std::memset(begin_, kPaint, kBytes);
    placed_ = {atEnd ? begin_ + kBytes - length : begin_, length};
    return placed_.data();
  }
  [[nodiscard]] bool paintIsWhole() const {
    for (const uint8_t* p = begin_; p < begin_ + kBytes; ++p)
      if ((p < placed_.data() || p >= placed_.data() + placed_.size()) && *p != kPaint)
        return false;
    return true;
  }

 private:
  static constexpr uint8_t kPaint = 0x5a;
  uint8_t* begin_;
  MutBytes placed_;
};

}  // namespace

TEST_CASE("codes from 2+1 to 16+4 are supported") {
  CHECK(ErasureCode::supports(2, 1));
  CHECK(ErasureCode::supports(16, 4));
  CHECK_FALSE(ErasureCode::supports(1, 1));
  CHECK_FALSE(ErasureCode::supports(17, 4));
  CHECK_FALSE(ErasureCode::supports(2, 0));
  CHECK_FALSE(ErasureCode::supports(16, 5));
  ErasureCode code(8, 3);
  CHECK(code.dataShards() == 8);
  CHECK(code.parityShards() == 3);
  CHECK(code.shards() == 11);
}

TEST_CASE("every loss of up to m shards is rebuilt, for every code") {
  forEachCode([](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    Stripe stripe(code, 97, 1);
    forEachLoss(code, [&](ShardSet lost) {
      if (rebuilds(code, stripe, allShards(code) & ~lost, lost)) return;
      FAIL("not rebuilt: " << lost);
    });
  });
}

TEST_CASE("any part of what is lost is rebuilt by itself") {
  constexpr std::array<std::array<unsigned, 2>, 6> kCodes{
      {{2, 1}, {2, 2}, {3, 2}, {4, 2}, {4, 4}, {8, 3}}};
  for (auto [k, m] : kCodes) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    Stripe stripe(code, 97, 5);
    forEachLoss(code, [&](ShardSet lost) {
      forEachPart(lost, [&](ShardSet wanted) {
        if (rebuilds(code, stripe, allShards(code) & ~lost, wanted)) return;
        FAIL("not rebuilt: " << wanted << " of " << lost);
      });
    });
  }
}

TEST_CASE("losses are rebuilt at any length and alignment") {
  Sequence sequence(3);
  forEachCode([&](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    for (size_t length : {0u, 1u, 31u, 33u, 4095u, 4096u, 65536u, 65543u}) {
      CAPTURE(length);
      Stripe stripe(code, length, sequence.below(64), length);
      for (int round = 0; round < 4; ++round) {
        ShardSet lost = 0;
        for (unsigned i = 0; i < m; ++i) lost |= ShardSet{1} << sequence.below(code.shards());
        CAPTURE(lost);
        REQUIRE(rebuilds(code, stripe, allShards(code) & ~lost, lost));
      }
    }
  });
}

TEST_CASE("with fewer than k shards nothing is rebuilt and nothing is written") {
  forEachCode([](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    Stripe stripe(code, 64, 0);
    std::array<uint8_t, 64> untouched;
    untouched.fill(0xa5);
    std::vector<const uint8_t*> from(code.shards());
    std::vector<uint8_t*> into(code.shards());
    ShardSet present = 0;
    for (unsigned i = 1; i < k; ++i) {
      present |= ShardSet{1} << i;
      from[i] = stripe.shard(i).data();
    }
    into[0] = untouched.data();
    for (ShardSet tooFew : {present, ShardSet{0}}) {
      auto result = code.reconstruct(from, tooFew, into, 1, 64);
      REQUIRE_FALSE(result);
      CHECK(result.error().code == Errc::kUnavailable);
    }
    CHECK(std::ranges::count(untouched, 0xa5) == 64);
    CHECK(code.cachedDecoders() == 0);
    // One more, and it is enough.
    present |= ShardSet{1} << k;
    CHECK(rebuilds(code, stripe, present, 1));
  });
}

TEST_CASE("wanting nothing is no work") {
  ErasureCode code(4, 2);
  Stripe stripe(code, 64, 0);
  CHECK(rebuilds(code, stripe, 0b001111, 0));
  CHECK(code.cachedDecoders() == 0);
}

TEST_CASE("a delta brings parity to what encoding the new data gives") {
  Sequence sequence(11);
  forEachCode([&](unsigned k, unsigned m) {
    CAPTURE(nameOf(k, m));
    ErasureCode code(k, m);
    for (size_t length : {1u, 31u, 33u, 1000u, 4096u, 4099u}) {
      CAPTURE(length);
      Stripe stripe(code, length, 7, length);
      for (unsigned shard = 0; shard < k; ++shard) {
        CAPTURE(shard);
        std::vector<uint8_t> delta(length);
        sequence.fill(delta);
        for (size_t i = 0; i < length; ++i) stripe.shard(shard)[i] ^= delta[i];
        code.parityDelta(shard, delta.data(), stripe.parity(), length);
        std::vector<uint8_t> memory(length * m);
        std::vector<uint8_t*> parity;
        for (unsigned p = 0; p < m; ++p) parity.push_back(memory.data() + p * length);
        code.encode(stripe.data(), parity, length);
        for (unsigned p = 0; p < m; ++p)
          REQUIRE(sameBytes(stripe.shard(k + p), {parity[p], length}));
      }
    }
  });
}

TEST_CASE("a delta of part of a shard leaves the rest of the parity") {
  ErasureCode code(6, 3);
  Stripe stripe(code, 4096, 0);
  const size_t offset = 517, length = 700;
  std::vector<uint8_t> delta(length);
  Sequence(5).fill(delta);
  std::vector<uint8_t*> parity;
  for (auto* p : stripe.parity()) parity.push_back(p + offset);
  for (size_t i = 0; i < length; ++i) stripe.shard(2)[offset + i] ^= delta[i];
  code.parityDelta(2, delta.data(), parity, length);
  forEachLoss(
      code, [&](ShardSet lost) { REQUIRE(rebuilds(code, stripe, allShards(code) & ~lost, lost)); });
}

TEST_CASE("nothing outside of the shards is read or written") {
  std::array<FencedMemory, 8> fenced;
  for (unsigned m = 1; m <= 4; ++m) {
    ErasureCode code(4, m);
    std::vector<size_t> lengths{4095, 4096, 4097};
    for (size_t length = 0; length <= 200; ++length) lengths.push_back(length);
    for (size_t length : lengths)
      for (bool atEnd : {false, true}) {
        CAPTURE(m);
        CAPTURE(length);
        std::vector<uint8_t*> shards;
        for (unsigned i = 0; i < code.shards(); ++i)
          shards.push_back(fenced[i].place(length, atEnd));
        std::vector<const uint8_t*> data(shards.begin(), shards.begin() + 4);
        std::span<uint8_t* const> parity = std::span(shards).subspan(4);
        code.encode(data, parity, length);
        code.parityDelta(1, shards[0], parity, length);
        const ShardSet lost = (ShardSet{1} << m) - 1;
        REQUIRE(code.reconstruct(shards, allShards(code) & ~lost, shards, lost, length));
        for (unsigned i = 0; i < code.shards(); ++i) REQUIRE(fenced[i].paintIsWhole());
      }
  }
}

TEST_CASE("decoders are kept up to a bound, and made again when they fell out") {
  ErasureCode code(10, 4);
  Stripe stripe(code, 40, 0);
  const ShardSet first = 0b1;
  CHECK(rebuilds(code, stripe, allShards(code) & ~first, first));
  CHECK(rebuilds(code, stripe, allShards(code) & ~first, first));
  CHECK(code.cachedDecoders() == 1);
  // Of the shards that are there only the k that are read count.
  CHECK(rebuilds(code, stripe, allShards(code) & ~first & ~(ShardSet{1} << 13), first));
  CHECK(code.cachedDecoders() == 1);
  for (int round = 0; round < 2; ++round)
    forEachLoss(code, [&](ShardSet lost) {
      REQUIRE(rebuilds(code, stripe, allShards(code) & ~lost, lost));
      REQUIRE(code.cachedDecoders() <= ErasureCode::kMaxDecoders);
    });
  CHECK(code.cachedDecoders() == ErasureCode::kMaxDecoders);
}

TEST_CASE("one code serves several threads, and several are made at once") {
  ErasureCode shared(6, 3);
  std::array<bool, 4> good{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < good.size(); ++t)
    threads.emplace_back([&shared, &good, t] {
      ErasureCode own(6, 3);
      Stripe stripe(own, 300, t);
      bool all = true;
      forEachLoss(shared, [&](ShardSet lost) {
        all = all && rebuilds(shared, stripe, allShards(shared) & ~lost, lost);
      });
      good[t] = all;
    });
  for (auto& thread : threads) thread.join();
  CHECK(std::ranges::count(good, true) == 4);
}
