// How work is shared out, whoever's threads do it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aerogel {

// Runs body(argument, i) for every i in [0, count), on whatever threads the caller has. A body may not throw.
class Parallel {
 public:
  using Body = void (*)(void* argument, size_t i);
  virtual ~Parallel() = default;
  virtual void For(size_t count, Body body, void* argument) const = 0;
};

// The same for a lambda.
template <typename Work>
void ParallelFor(const Parallel& parallel, int64_t count, Work work) {
  parallel.For(
      static_cast<size_t>(count),
      [](void* argument, size_t i) { (*static_cast<Work*>(argument))(static_cast<int64_t>(i)); }, &work);
}

}  // namespace aerogel
