#include "common/disk/watched_disk.h"

namespace cairn {

class WatchedDisk::Watched final : public File {
 public:
  Watched(WatchedDisk& disk, std::unique_ptr<File> file) : disk_(disk), file_(std::move(file)) {}

  Task<Result<void>> read(Buffer into, uint64_t offset) override {
    const UnderWay underWay(disk_);
    co_return co_await file_->read(std::move(into), offset);
  }
  Task<Result<void>> write(std::vector<Buffer> parts, uint64_t offset, bool durable) override {
    const UnderWay underWay(disk_);
    co_return co_await file_->write(std::move(parts), offset, durable);
  }
  Task<Result<void>> sync() override {
    const UnderWay underWay(disk_);
    co_return co_await file_->sync();
  }
  [[nodiscard]] uint64_t size() const override { return file_->size(); }

 private:
  class UnderWay {
   public:
    explicit UnderWay(WatchedDisk& disk)
        : began_(disk.began_), at_(began_.insert(began_.end(), disk.clock_.now())) {}
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    ~UnderWay() { began_.erase(at_); }

   private:
    Began& began_;
    const Began::iterator at_;
  };

  WatchedDisk& disk_;
  const std::unique_ptr<File> file_;
};

Task<Result<std::unique_ptr<File>>> WatchedDisk::open(std::string path, OpenOptions options) {
  auto file = co_await disk_.open(std::move(path), options);
  CO_TRY(file);
  co_return std::make_unique<Watched>(*this, std::move(*file));
}

}  // namespace cairn
