#include "common/reactor/offload_pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

namespace cairn {

OffloadPool::~OffloadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& t : threads_) t.join();
}

void OffloadPool::submit(std::function<void()> work, Completion& done) {
  bool grow;
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({std::move(work), &done});
    grow = queue_.size() > idle_ && threads_.size() < maxThreads_;
  }
  if (!grow) {
    changed_.notify_one();
    return;
  }
  // A thread inherits the mask of its maker: a pool thread must never take a signal that the
  // reactor reads from its signalfd.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  threads_.emplace_back([this] { threadMain(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void OffloadPool::takeDone(std::vector<Completion*>& out) {
  std::lock_guard lock(mutex_);
  out.insert(out.end(), done_.begin(), done_.end());
  done_.clear();
}

void OffloadPool::threadMain() {
  pthread_setname_np(pthread_self(), "offload");
  std::unique_lock lock(mutex_);
  while (true) {
    while (queue_.empty()) {
      if (stopping_) return;
      ++idle_;
      changed_.wait(lock);
      --idle_;
    }
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;  // what it captured dies before the reactor hears of the end
    lock.lock();
    bool wake = done_.empty();  // otherwise the reactor was woken and has not looked yet
    done_.push_back(job.done);
    if (wake) eventfd_write(wakeFd_, 1);
  }
}

}  // namespace cairn
