// Fuzzes the loading of a matrix: exactly the well-formed ones are accepted, and their products are correct.
#include <algorithm>
#include <cmath>

#include "fuzz.h"

using check::Expect;
using check::Kind;
using check::Matrix;

namespace {

// Sets invalid or wrong sizes. Returns whether the matrix can still be valid.
bool Missize(check::Bytes& bytes, Matrix* m) {
  const int64_t huge[] = {0, -1, int64_t{1} << 31, std::numeric_limits<int64_t>::max(),
                          std::numeric_limits<int64_t>::min()};
  const uint8_t which = bytes.Byte();
  const int64_t size = huge[bytes.Byte() % 5];
  switch (which % 16) {
    case 0:
      m->out = size;
      return false;
    case 1:
      m->in = size;
      return false;
    case 2:
      m->r = size;
      return m->kind == Kind::kDense;
    case 3:
      m->c = size;
      return m->kind == Kind::kDense;
    case 4:
      m->entries = std::max(size, int64_t{0});
      return m->kind == Kind::kDense || m->entries == static_cast<int64_t>(m->indices.size());
    case 5: {
      if (m->kind == Kind::kDense) return true;
      m->c += bytes.Byte();
      const size_t values = m->indices.size() * static_cast<size_t>(m->r * m->c);
      m->values.resize(values);
      if (m->kind == Kind::kFloat16) m->halves.resize(values);
      if (m->kind == Kind::kInt8) m->bytes.resize(values);
      return m->in % m->c == 0;
    }
    default:
      return true;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check::Bytes bytes(data, size);
  const char* isa = check::Isa(bytes);
  const int64_t r = bytes.Size(8), c = bytes.Size(8);
  const int64_t tall = bytes.Size(24), broad = bytes.Size(40);
  Matrix m = check::Good(bytes, tall, broad, r, c);
  Damage(bytes, &m);
  const bool good = Missize(bytes, &m) && Valid(m);
  std::string error;
  const check::Linear linear = m.Create(isa, &error);
  Expect((linear != nullptr) == good, m.Describe() + (linear ? ": accepted" : ": " + error));
  Expect(linear || !error.empty(), "refused without a reason");
  if (!linear) return 0;
  const int64_t tokens = bytes.Size(70);
  check::Random random(bytes.Byte());
  const std::vector<float> x = check::Activations(random, m, tokens);
  std::vector<float> y = check::Poisoned(tokens * m.out);
  Expect(!aerogel_linear_run(linear.get(), x.data(), tokens, y.data(), 1 + bytes.Byte() % 2), "run");
  Compare(m.Describe(), y, Multiply(m, x, tokens));
  Expect(check::failures == 0, "wrong product");
  return 0;
}
