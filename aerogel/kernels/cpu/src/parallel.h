// Parallel loops, on the threads of the caller's choice.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// Runs body(argument, i) for every i in [0, count), in any order and on any thread. A body may not throw.
class Parallel {
 public:
  using Body = void (*)(void* argument, size_t i);
  virtual ~Parallel() = default;
  virtual void For(size_t count, Body body, void* argument) const = 0;
};

// Calls work(i) for every i in [0, count).
template <typename Work>
void ParallelFor(const Parallel& parallel, int64_t count, Work work) {
  parallel.For(
      static_cast<size_t>(count),
      [](void* argument, size_t i) { (*static_cast<Work*>(argument))(static_cast<int64_t>(i)); }, &work);
}

}  // namespace aerogel
