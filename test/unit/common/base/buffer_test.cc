#include "common/base/buffer.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "common/base/units.h"
#include "common/reactor/clock.h"

using namespace cairn;

namespace {

bool inside(const Buffer& b, MutBytes arena) {
  return b.data() >= arena.data() && b.data() + b.size() <= arena.data() + arena.size();
}

}  // namespace

TEST_CASE("buffers are aligned and writable up to whole blocks, of every size") {
  for (size_t arena : {size_t{0}, size_t{16} << 20}) {
    BufferPool pool(64 << 20, arena);
    for (size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{100'000},
                        size_t{1} << 20, size_t{4} << 20, (size_t{4} << 20) + 1}) {
      Buffer b = pool.get(size);
      CHECK(b.size() == size);
      CHECK(reinterpret_cast<uintptr_t>(b.data()) % kBlockSize == 0);
      std::memset(b.data(), 0xab, roundUp(size, kBlockSize));
    }
  }
}

TEST_CASE("an empty buffer has no bytes and can be copied and sliced") {
  BufferPool pool;
  Buffer b = pool.get(0);
  CHECK(b.empty());
  Buffer c = b;
  CHECK(c.slice(0, 0).empty());
  CHECK(pool.copyOf({}).empty());
}

TEST_CASE("a slice keeps the bytes after the buffer is gone") {
  BufferPool pool;
  Buffer slice;
  {
    Buffer b = pool.zeroed(64 * kKiB);
    std::memcpy(b.data() + 5000, "hello", 5);
    slice = b.slice(4096, 8192).slice(904, 5);
    b = Buffer();
    // The block is not handed out again while a slice lives.
    Buffer other = pool.get(64 * kKiB);
    std::memset(other.data(), 0xff, other.size());
  }
  CHECK(std::memcmp(slice.data(), "hello", 5) == 0);
}

TEST_CASE("copies share the bytes; moving leaves nothing behind; self-assignment is harmless") {
  BufferPool pool;
  Buffer a = pool.copyOf(Bytes(reinterpret_cast<const uint8_t*>("abc"), 3));
  Buffer b = a;
  b.data()[0] = 'x';
  CHECK(a.data()[0] == 'x');
  Buffer c = std::move(a);
  CHECK(a.empty());
  CHECK(a.data() == nullptr);
  Buffer& alias = c;
  c = alias;
  CHECK(c.size() == 3);
  CHECK(c.data() == b.data());
}

TEST_CASE("freed memory of a size is used again") {
  BufferPool pool(1 << 20);
  uint8_t* first;
  {
    first = pool.get(10'000).data();
  }
  CHECK(pool.get(16 * kKiB).data() == first);
}

TEST_CASE("buffers outlive their pool") {
  Buffer heap, arena;
  {
    BufferPool pool;
    heap = pool.zeroed(4096);
    BufferPool registered(0, 4 << 20);
    arena = registered.zeroed(4096);
  }
  heap.data()[4095] = 1;
  arena.data()[4095] = 1;
  CHECK(heap.data()[4095] == 1);
}

TEST_CASE("blocks come from the arena while it lasts, then from the heap") {
  BufferPool pool(64 << 20, 8 << 20);
  REQUIRE(pool.arena().size() == 8 << 20);
  CHECK(reinterpret_cast<uintptr_t>(pool.arena().data()) % (4 << 20) == 0);
  std::vector<Buffer> held;
  for (int i = 0; i < 8; ++i) held.push_back(pool.get(1 << 20));
  for (auto& b : held) CHECK(inside(b, pool.arena()));
  Buffer more = pool.get(1 << 20);
  CHECK_FALSE(inside(more, pool.arena()));
  held.pop_back();
  CHECK(inside(pool.get(1 << 20), pool.arena()));
}

TEST_CASE("an arena that served one size serves another when that is free again") {
  BufferPool pool(64 << 20, 8 << 20);
  for (size_t size : {size_t{4096}, size_t{1} << 20, size_t{4} << 20, size_t{65536}}) {
    std::vector<Buffer> all;
    for (size_t i = 0; i < pool.arena().size() / size; ++i) {
      all.push_back(pool.get(size));
      CHECK(inside(all.back(), pool.arena()));
    }
    CHECK_FALSE(inside(pool.get(size), pool.arena()));
  }
}

TEST_CASE("random use: no two live buffers overlap, and none changes under its owner") {
  BufferPool pool(1 << 20, 12 << 20);
  SeededRandom random(20260101);
  struct Live {
    Buffer buffer;
    uint8_t mark;
  };
  std::vector<Live> live;
  std::map<uint8_t*, uint8_t*> extents;
  for (int step = 0; step < 20'000; ++step) {
    if (live.size() < 40 && random.chance(1, 2)) {
      Buffer b = pool.get(1 + random.below(1ull << (8 + random.below(14))));
      auto next = extents.lower_bound(b.data());
      if (next != extents.end()) REQUIRE(b.data() + b.size() <= next->first);
      if (next != extents.begin()) REQUIRE(std::prev(next)->second <= b.data());
      extents[b.data()] = b.data() + b.size();
      auto mark = static_cast<uint8_t>(step);
      b.data()[0] = b.data()[b.size() - 1] = mark;
      live.push_back({std::move(b), mark});
    } else if (!live.empty()) {
      size_t i = random.below(live.size());
      auto& l = live[i];
      REQUIRE(l.buffer.data()[l.buffer.size() - 1] == l.mark);
      extents.erase(l.buffer.data());
      std::swap(l, live.back());
      live.pop_back();
    }
  }
}

TEST_CASE("buffers are dropped on other threads") {
  std::optional<BufferPool> pool(std::in_place, 8 << 20, 4 << 20);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    std::vector<Buffer> mine;
    for (int i = 0; i < 500; ++i) mine.push_back(pool->zeroed(4096 + static_cast<size_t>(i) * 100));
    threads.emplace_back([buffers = std::move(mine)]() mutable { buffers.clear(); });
    for (int i = 0; i < 500; ++i) CHECK(pool->zeroed(8192).data()[8191] == 0);
  }
  pool.reset();  // some buffers may still be alive
  for (auto& t : threads) t.join();
}
