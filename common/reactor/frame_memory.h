// Where coroutine frames live. They come and go many times for each request, and are often larger
// than what malloc has at hand; so those that end are kept, by size, for the next ones of their
// thread. With an address sanitizer every frame is its own allocation.
#pragma once

#include <array>
#include <cstddef>
#include <new>
#include <vector>

namespace cairn::detail {

#if defined(__SANITIZE_ADDRESS__)
#define CAIRN_FRAMES_APART 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAIRN_FRAMES_APART 1
#endif
#endif

class FrameMemory {
 public:
  static void* take(size_t size) {
    if (Kept* kept = keptFor(size); kept != nullptr && !kept->empty()) {
      void* p = kept->back();
      kept->pop_back();
      return p;
    }
    return ::operator new(rounded(size));
  }
  static void give(void* p, size_t size) noexcept {
    Kept* kept = keptFor(size);
    if (kept == nullptr || kept->size() == kept->capacity()) {
      ::operator delete(p);
      return;
    }
    kept->push_back(p);
  }

 private:
  static constexpr size_t kStep = 64, kLargest = 4096, kKeptBytes = 128 * 1024;

  using Kept = std::vector<void*>;  // as many as it has room for
  struct Lists {
    Lists() {
      for (size_t i = 0; i < all.size(); ++i) all[i].reserve(kKeptBytes / ((i + 1) * kStep));
    }
    Lists(const Lists&) = delete;
    Lists& operator=(const Lists&) = delete;
    ~Lists() {
      ended = true;
      for (Kept& kept : all)
        for (void* p : kept) ::operator delete(p);
    }
    std::array<Kept, kLargest / kStep> all;
  };

  static size_t rounded(size_t size) { return (size + kStep - 1) / kStep * kStep; }
  // Null where nothing is kept: large ones, and when the thread ends.
  static Kept* keptFor([[maybe_unused]] size_t size) {
#ifdef CAIRN_FRAMES_APART
    return nullptr;
#else
    if (size > kLargest || ended) return nullptr;
    thread_local Lists lists;
    return &lists.all[(size - 1) / kStep];
#endif
  }

  static inline thread_local bool ended = false;
};

}  // namespace cairn::detail
