// A few threads for work that blocks. The reactor hands work over and learns of its end through an
// eventfd; nothing of it exists until the first hand-over. submit() and takeDone() are called on
// the reactor's thread; the work runs on a pool thread, with every signal blocked.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "common/reactor/reactor.h"

namespace cairn {

class OffloadPool {
 public:
  // `wakeFd` is an eventfd that outlives the pool.
  OffloadPool(unsigned maxThreads, int wakeFd) : maxThreads_(maxThreads), wakeFd_(wakeFd) {}
  // Runs to their end all pieces of work that were handed over, then ends the threads.
  ~OffloadPool();
  OffloadPool(const OffloadPool&) = delete;
  OffloadPool& operator=(const OffloadPool&) = delete;

  void submit(std::function<void()> work, Completion& done);
  // Appends what has ended since the last call. The eventfd was written at least once for it.
  void takeDone(std::vector<Completion*>& out);

 private:
  struct Job {
    std::function<void()> work;
    Completion* done;
  };
  void threadMain();

  const unsigned maxThreads_;
  const int wakeFd_;
  std::vector<std::thread> threads_;  // the reactor's thread only

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Job> queue_;
  std::vector<Completion*> done_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace cairn
