// Shared by the tests of one instruction set's functions (elementwise.h, attention.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <string>

#include "check.h"
#include "dispatch.h"

namespace check {

using aerogel::KernelTable;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline void Expect(bool good, const KernelTable& kernels, const std::string& what) {
  if (!good) Fail(std::string(kernels.name) + ": " + what);
}

inline float Normal(Random& random) { return std::normal_distribution<float>()(random); }

// Exactly `size` elements, aligned to 64 bytes.
template <typename T>
class Aligned {
 public:
  Aligned(int64_t size, T value)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), std::align_val_t(64)))),
        size_(size) {
    std::fill_n(data_, size, value);
  }
  ~Aligned() { ::operator delete(data_, std::align_val_t(64)); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  int64_t size() const { return size_; }

 private:
  T* data_;
  int64_t size_;
};

// Calls `test` for every instruction set of this machine; returns the exit code of main.
inline int ForIsas(int argc, char** argv, void (*test)(Random& random, const KernelTable& kernels)) {
  const uint64_t seed = Option(argc, argv, "--seed", 1);
  for (int i = 0; i < aerogel::kIsaCount; ++i) {
    const aerogel::Isa& isa = aerogel::IsaAt(i);
    std::printf("%-10s %s\n", isa.name, *isa.reason ? isa.reason : "tested");
    if (*isa.reason) continue;
    Random random(seed);
    test(random, *isa.kernels);
  }
  return Finish(seed);
}

}  // namespace check
