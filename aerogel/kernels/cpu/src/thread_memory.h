// Working memory of a thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace aerogel {

// Of all working memory, in bytes: a cache line, and the widest vector.
constexpr size_t kAlignment = 64;

// Floats that every thread has for the scores of a head.
constexpr int64_t kScratchFloats = 32768;
// The calling thread's scratch memory, [kScratchFloats], aligned. It has no constructor or destructor, so nothing of
// this library runs, or can throw, when a thread of the caller's starts or ends.
inline float* ThreadScratch() {
  alignas(kAlignment) static thread_local float scratch[kScratchFloats];
  return scratch;
}

// Memory that grows on demand. Each calling thread keeps one between calls, because mapping megabytes of fresh pages
// costs as much as a small layer.
class GrowingBuffer {
 public:
  // At least `floats` aligned floats with unspecified contents, valid until the next call. Throws std::bad_alloc.
  float* Get(int64_t floats) {
    if (floats > size_) {
      Free();
      data_ = static_cast<float*>(
          ::operator new(static_cast<size_t>(floats) * sizeof(float), std::align_val_t(kAlignment)));
      size_ = floats;
    }
    return data_;
  }
  ~GrowingBuffer() { Free(); }

 private:
  void Free() {
    ::operator delete(data_, std::align_val_t(kAlignment));
    data_ = nullptr;
    size_ = 0;
  }
  float* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace aerogel
