// Memory that a thread works in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace aerogel {

constexpr size_t kAlignment = 64;

// Floats that every thread has for sums of a chunk or scores of a head.
constexpr int64_t kScratchFloats = 32768;
// Thread-local without constructor or destructor: nothing of it runs, or can throw, on a thread of the caller's.
inline float* Scratch() {
  alignas(kAlignment) static thread_local float scratch[kScratchFloats];
  return scratch;
}

// One per calling thread, kept between calls because mapping megabytes of fresh pages costs as much as a small layer.
class Workspace {
 public:
  // At least `floats` aligned floats, of any content, valid until the next call. Throws std::bad_alloc.
  float* Get(int64_t floats) {
    if (floats > size_) {
      Free();
      data_ = static_cast<float*>(
          ::operator new(static_cast<size_t>(floats) * sizeof(float), std::align_val_t(kAlignment)));
      size_ = floats;
    }
    return data_;
  }
  ~Workspace() { Free(); }

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
