// Threads that share the parts of one piece of work after another. For a single word pieces take microseconds, so a thread
// without work looks again and again for a moment before it sleeps, and a caller who waits for his turn, or for the last
// parts, never sleeps: he looks, and lets others go first.
#pragma once

#include <immintrin.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace fastvlm {

class Threads {
 public:
  explicit Threads(int count) : count_(count < 1 ? 1 : count), process_(getpid()) {
    try {
      for (int index = 1; index < count_; ++index) workers_.emplace_back([this] { serve(); });
    } catch (...) {
      end();
      throw;
    }
  }

  ~Threads() { end(); }

  int count() const { return count_; }

  // Call work(part) once for each part below num_parts, on all threads; parts are taken in order, by whoever is free. An
  // exception of any of them is one of the caller's.
  // Callers take turns at this: one who reads a long prompt holds up another's single word for one piece of work only.
  void run(int num_parts, const std::function<void(int)>& work) {
    // A process that was forked off has none of the threads.
    if (count_ == 1 || num_parts == 1 || getpid() != process_) {
      for (int part = 0; part < num_parts; ++part) work(part);
      return;
    }
    const uint32_t turn = next_turn_.fetch_add(1);
    for (int looks = 0; turn_.load(std::memory_order_acquire) != turn; ++looks) pause(looks);
    work_ = &work;
    num_parts_ = num_parts;
    next_part_.store(0, std::memory_order_relaxed);
    num_busy_.store(count_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1);
    if (num_asleep_.load() > 0) generation_.notify_all();
    take_parts();
    for (int looks = 0; num_busy_.load(std::memory_order_acquire) > 0; ++looks) pause(looks);
    const auto error = std::exchange(error_, nullptr);
    turn_.fetch_add(1, std::memory_order_release);
    if (error) std::rethrow_exception(error);
  }

 private:
  void end() {
    is_over_ = true;
    generation_.fetch_add(1);
    generation_.notify_all();
    for (auto& worker : workers_) {
      if (getpid() == process_) worker.join();
      else worker.detach();
    }
  }

  // What a thread looks for before it yields to others, and before it sleeps: tens and hundreds of microseconds.
  static constexpr int kLooksBeforeYield = 1 << 10, kLooksBeforeSleep = 1 << 13;

  static void pause(int looks) {
    if (looks < kLooksBeforeYield) _mm_pause();
    else std::this_thread::yield();
  }

  void take_parts() {
    try {
      for (int part; (part = next_part_.fetch_add(1, std::memory_order_relaxed)) < num_parts_;) (*work_)(part);
    } catch (...) {
      const std::lock_guard guard(error_lock_);
      error_ = std::current_exception();
    }
  }

  void serve() {
    for (uint32_t seen = 0;;) {
      for (int looks = 0; generation_.load(std::memory_order_acquire) == seen; ++looks) {
        if (looks < kLooksBeforeSleep) {
          pause(looks);
          continue;
        }
        num_asleep_.fetch_add(1);
        generation_.wait(seen);
        num_asleep_.fetch_sub(1);
      }
      ++seen;
      if (is_over_) return;
      take_parts();
      num_busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const int count_;
  const pid_t process_;
  std::vector<std::thread> workers_;
  std::atomic<bool> is_over_{false};
  std::atomic<uint32_t> generation_{0}, next_turn_{0}, turn_{0};
  std::atomic<int> next_part_{0}, num_busy_{0}, num_asleep_{0};
  const std::function<void(int)>* work_ = nullptr;
  int num_parts_ = 0;
  std::mutex error_lock_;
  std::exception_ptr error_;
};

}  // namespace fastvlm
