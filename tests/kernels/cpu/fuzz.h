// Shared by the fuzzing programs: numbers from the fuzzer's bytes, and matrices damaged with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "matrices.h"

namespace check {

// Reads bytes; zeros after the last one.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : next_(data), end_(data + size) {}
  bool empty() const { return next_ == end_; }
  uint8_t Byte() { return empty() ? 0 : *next_++; }
  int32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return static_cast<int32_t>(word);
  }
  // In [1, most].
  int64_t Size(int64_t most) { return 1 + Byte() % most; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
};

// Stops the fuzzer, which saves the input.
inline void Expect(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

inline const char* Isa(Bytes& bytes) {
  static const std::vector<const char*> isas = Isas();
  return isas[bytes.Byte() % isas.size()];
}

// A valid matrix. Its values come from a seed: their positions matter more than the values.
inline Matrix Good(Bytes& bytes, int64_t out_blocks, int64_t in_blocks, int64_t r, int64_t c) {
  Random random(bytes.Byte());
  const Kind kind = kKinds[bytes.Byte() % 4];
  if (kind == Kind::kDense) return Make(random, kind, out_blocks * r, in_blocks * c, 1, 1, 1, false);
  const double density = bytes.Byte() / 255.0;
  return Make(random, kind, out_blocks * r, in_blocks * c, r, c, density, bytes.Byte() % 2 != 0);
}

// Changes up to four numbers.
inline void Damage(Bytes& bytes, Matrix* m) {
  if (m->kind == Kind::kDense) return;
  for (int times = bytes.Byte() % 5; times > 0; --times) {
    const uint8_t which = bytes.Byte();
    const auto at = static_cast<size_t>(static_cast<uint32_t>(bytes.Word()));
    if (which % 4 == 0 && !m->indices.empty()) {
      m->indices[at % m->indices.size()] = bytes.Word();
    } else if (which % 4 == 1 && !m->indices.empty()) {
      m->indices[at % m->indices.size()] += static_cast<int8_t>(bytes.Byte());
    } else if (which % 4 == 2) {
      m->indptr[at % m->indptr.size()] = bytes.Word();
    } else if (!m->bytes.empty()) {
      m->values[at % m->bytes.size()] = m->bytes[at % m->bytes.size()] = static_cast<int8_t>(bytes.Byte());
    } else {
      m->indptr[at % m->indptr.size()] += static_cast<int8_t>(bytes.Byte());
    }
  }
}

}  // namespace check
