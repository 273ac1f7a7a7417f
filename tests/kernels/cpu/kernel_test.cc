// Holds every instruction set of this build against a float64 reference, then feeds the loader damaged matrices.
//
// Needs nothing but the library, so that the same program runs natively, under the sanitizers and under an emulator of
// another architecture. Buffers are exactly as large as promised and lie on the heap, where the address sanitizer
// guards their ends.
//
//   kernel_test [--seed N] [--damage N]
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "c_api.h"

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
int failures = 0;

void Fail(const std::string& what) {
  std::printf("FAILED %s\n", what.c_str());
  ++failures;
}

struct Matrix {
  int64_t out = 0, in = 0, r = 1, c = 1;
  bool wide = false;
  std::vector<float> data;
  std::vector<int32_t> indices;
  std::vector<int32_t> indptr;
  std::vector<float> bias;
  int64_t entries = -1;  // what the call claims; -1: as many as there are indices
  mutable std::vector<uint16_t> narrow;

  AerogelLinear* Create(const char* isa, std::string* error) const {
    // uint16 indices are cut from the int32 ones just before the call, into a buffer of exactly their size.
    narrow = std::vector<uint16_t>(indices.begin(), indices.end());
    char text[256] = "";
    AerogelMatrix source{};
    source.out_features = out, source.in_features = in, source.block_rows = r, source.block_cols = c;
    source.entries = entries < 0 ? static_cast<int64_t>(indices.size()) : entries;
    source.kind = AEROGEL_FLOAT32;
    source.wide_indices = wide;
    source.data = data.data();
    source.indices = wide ? static_cast<const void*>(indices.data()) : narrow.data();
    source.indptr = indptr.data();
    source.bias = bias.data();
    AerogelLinear* linear = aerogel_linear_create(&source, isa, text, sizeof text);
    *error = text;
    return linear;
  }
};

using Random = std::mt19937_64;

float Uniform(Random& random) { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(random); }

// Every third block row is empty when `gaps` is set, as happens to neurons that are pruned away.
Matrix Make(Random& random, int64_t out, int64_t in, int64_t r, int64_t c, double density, bool gaps) {
  Matrix m;
  m.out = out, m.in = in, m.r = r, m.c = c;
  m.wide = random() % 2 != 0;
  m.indptr.push_back(0);
  std::bernoulli_distribution keep(density);
  for (int64_t row = 0; row < out / r; ++row) {
    for (int64_t col = 0; col < in / c && !(gaps && row % 3 == 1); ++col) {
      if (!keep(random)) continue;
      m.indices.push_back(static_cast<int32_t>(col));
      for (int64_t i = 0; i < r * c; ++i) m.data.push_back(Uniform(random));
    }
    m.indptr.push_back(static_cast<int32_t>(m.indices.size()));
  }
  for (int64_t row = 0; row < out; ++row) m.bias.push_back(Uniform(random));
  return m;
}

// y[t, n] = bias[n] + sum W[n, k] x[t, k], and the sum of magnitudes that its rounding error is measured by.
void Reference(const Matrix& m, const std::vector<float>& x, int64_t tokens, std::vector<double>* y,
               std::vector<double>* scale) {
  y->assign(static_cast<size_t>(tokens * m.out), 0.0);
  *scale = *y;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t n = 0; n < m.out; ++n) {
      double sum = m.bias[n], magnitude = std::fabs(sum);
      for (int32_t i = m.indptr[n / m.r]; i < m.indptr[n / m.r + 1]; ++i) {
        for (int64_t j = 0; j < m.c; ++j) {
          const double term = double{m.data[(i * m.r + n % m.r) * m.c + j]} * x[t * m.in + m.indices[i] * m.c + j];
          sum += term, magnitude += std::fabs(term);
        }
      }
      (*y)[t * m.out + n] = sum, (*scale)[t * m.out + n] = magnitude;
    }
  }
}

void CheckMatrix(Random& random, const Matrix& m, const std::vector<const char*>& isas) {
  for (int64_t tokens : {1, 3, 4, 15, 16, 17, 33, 64, 65, 127, 128, 200, 513}) {
    // Large cases at few token counts; under an emulator they take most of the time.
    if (m.out * m.in > 20000 && tokens != 3 && tokens != 128 && tokens != 513) continue;
    std::vector<float> x(static_cast<size_t>(tokens * m.in));
    for (float& v : x) v = Uniform(random);
    std::vector<double> expected, scale;
    Reference(m, x, tokens, &expected, &scale);
    for (const char* isa : isas) {
      const std::string what = std::string(isa) + " " + std::to_string(m.out) + "x" + std::to_string(m.in) +
                               " blocks " + std::to_string(m.r) + "x" + std::to_string(m.c) + " entries " +
                               std::to_string(m.indices.size()) + " tokens " + std::to_string(tokens);
      std::string error;
      AerogelLinear* linear = m.Create(isa, &error);
      if (!linear) {
        Fail(what + ": " + error);
        continue;
      }
      std::vector<float> first;
      for (int threads : {1, 3}) {
        std::vector<float> y(expected.size(), kNaN);
        if (aerogel_linear_run(linear, x.data(), tokens, y.data(), threads)) Fail(what + ": run");
        for (size_t i = 0; i < y.size(); ++i) {
          // A sum of n rounded terms is off by at most about n/2 eps of its magnitudes; in practice by far less.
          if (!(std::fabs(y[i] - expected[i]) <= 16 * std::numeric_limits<float>::epsilon() * (scale[i] + 1e-30))) {
            Fail(what + ": y[" + std::to_string(i) + "] is " + std::to_string(y[i]) + ", expected " +
                 std::to_string(expected[i]));
            break;
          }
        }
        if (threads == 1) first = y;
        if (std::memcmp(first.data(), y.data(), y.size() * sizeof(float))) Fail(what + ": depends on threads");
      }
      aerogel_linear_destroy(linear);
    }
  }
}

// A token's result must not depend on what other tokens hold, and pruned columns must not be read as numbers.
void CheckPoison(Random& random, const std::vector<const char*>& isas) {
  Matrix m = Make(random, 40, 48, 1, 1, 0.3, false);
  for (int32_t& i : m.indices) i = i == 7 ? -1 : i;
  std::vector<float> data;
  std::vector<int32_t> indices, indptr{0};
  for (int64_t n = 0; n < m.out; ++n) {
    for (int32_t i = m.indptr[n]; i < m.indptr[n + 1]; ++i) {
      if (m.indices[i] >= 0) data.push_back(m.data[i]), indices.push_back(m.indices[i]);
    }
    indptr.push_back(static_cast<int32_t>(indices.size()));
  }
  m.data = data, m.indices = indices, m.indptr = indptr;
  const int64_t tokens = 21;
  std::vector<float> x(static_cast<size_t>(tokens * m.in));
  for (float& v : x) v = Uniform(random);
  for (int64_t t = 0; t < tokens; ++t) x[t * m.in + 7] = kNaN;  // column 7 is pruned everywhere
  for (int64_t k = 0; k < m.in; ++k) x[5 * m.in + k] = kNaN;    // token 5 is poisoned entirely
  for (const char* isa : isas) {
    std::string error;
    AerogelLinear* linear = m.Create(isa, &error);
    std::vector<float> y(static_cast<size_t>(tokens * m.out));
    aerogel_linear_run(linear, x.data(), tokens, y.data(), 1);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t n = 0; n < m.out; ++n) {
        const bool poisoned = t == 5 && m.indptr[n] != m.indptr[n + 1];
        if (std::isnan(y[t * m.out + n]) != poisoned) {
          Fail(std::string(isa) + ": NaN spreads, token " + std::to_string(t));
          t = tokens;
          break;
        }
      }
    }
    aerogel_linear_destroy(linear);
  }
}

bool Valid(const Matrix& m) {
  const int64_t rows = m.out / m.r, entries = static_cast<int64_t>(m.indices.size());
  if (m.indptr[0] != 0 || m.indptr[rows] != entries) return false;
  for (int64_t row = 0; row < rows; ++row) {
    if (m.indptr[row] > m.indptr[row + 1] || m.indptr[row + 1] > entries) return false;
    for (int64_t i = m.indptr[row]; i < m.indptr[row + 1]; ++i) {
      const int64_t index = m.wide ? m.indices[i] : static_cast<uint16_t>(m.indices[i]);
      if (index < 0 || index >= m.in / m.c) return false;
      const int64_t before = i == m.indptr[row] ? -1
                             : m.wide           ? m.indices[i - 1]
                                                : static_cast<uint16_t>(m.indices[i - 1]);
      if (index <= before) return false;
    }
  }
  return true;
}

// Claims sizes that no array bears out. All must be refused before anything is read or allocated by them.
void CheckSizes(Random& random) {
  const int64_t huge[] = {0,
                          -1,
                          int64_t{1} << 31,
                          int64_t{1} << 40,
                          std::numeric_limits<int64_t>::max(),
                          std::numeric_limits<int64_t>::min()};
  for (int64_t size : huge) {
    for (int64_t Matrix::* field : {&Matrix::out, &Matrix::in, &Matrix::r, &Matrix::c, &Matrix::entries}) {
      Matrix m = Make(random, 12, 12, 2, 2, 0.5, false);
      if (field == &Matrix::entries && size < 0) continue;   // -1 stands for the true number
      if (field == &Matrix::entries && size == 0) continue;  // a mere disagreement with indptr; CheckDamage has those
      m.*field = size;
      std::string error;
      AerogelLinear* linear = m.Create(nullptr, &error);
      if (linear) Fail("accepted a size of " + std::to_string(size));
      aerogel_linear_destroy(linear);
    }
  }
  Matrix wide = Make(random, 1, 1, 1, 1, 0.0, false);
  wide.in = std::numeric_limits<int32_t>::max();
  wide.out = 1;
  std::string error;
  AerogelLinear* linear = wide.Create(nullptr, &error);
  if (!linear) Fail("refused a wide matrix without entries: " + error);
  aerogel_linear_destroy(linear);
}

// A token's result is the same to the bit alone and among others.
void CheckCompany(Random& random, const std::vector<const char*>& isas) {
  const int64_t tokens = 261;
  for (int64_t r : {1, 2, 4}) {
    Matrix m = Make(random, 300, 400, r, 1, 0.2, true);
    std::vector<float> x(static_cast<size_t>(tokens * m.in));
    for (float& v : x) v = Uniform(random);
    for (const char* isa : isas) {
      std::string error;
      AerogelLinear* linear = m.Create(isa, &error);
      std::vector<float> together(static_cast<size_t>(tokens * m.out)), alone(static_cast<size_t>(m.out));
      aerogel_linear_run(linear, x.data(), tokens, together.data(), 1);
      for (int64_t t : {int64_t{0}, int64_t{63}, int64_t{200}, tokens - 1}) {
        aerogel_linear_run(linear, x.data() + t * m.in, 1, alone.data(), 1);
        if (std::memcmp(alone.data(), together.data() + t * m.out, alone.size() * sizeof(float))) {
          Fail(std::string(isa) + ": token " + std::to_string(t) + " depends on its company");
        }
      }
      aerogel_linear_destroy(linear);
    }
  }
}

// Damages one to three numbers of a good matrix. What is then malformed must be refused; what is not must run.
void CheckDamage(Random& random, int rounds) {
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    const int64_t r = 1 + random() % 4, c = 1 + random() % 3;
    Matrix m = Make(random, r * (1 + random() % 20), c * (1 + random() % 20), r, c, 0.4, false);
    for (int times = 1 + random() % 3; times > 0; --times) {
      std::vector<int32_t>& victim = random() % 2 && !m.indices.empty() ? m.indices : m.indptr;
      int32_t& number = victim[random() % victim.size()];
      switch (random() % 5) {
        case 0:
          number = static_cast<int32_t>(random());
          break;
        case 1:
          number ^= 1;
          break;
        case 2:
          number = ~number;
          break;
        case 3:
          number = static_cast<int32_t>(m.in / m.c);
          break;
        default:
          number = std::numeric_limits<int32_t>::max();
          break;
      }
    }
    std::string error;
    AerogelLinear* linear = m.Create(nullptr, &error);
    if ((linear != nullptr) != Valid(m))
      Fail("damaged matrix " + std::to_string(round) + ": " + (linear ? "accepted" : error));
    if (!linear) {
      ++refused;
      if (error.empty()) Fail("refused without a reason");
      continue;
    }
    std::vector<float> x(static_cast<size_t>(5 * m.in), 1.0f), y(static_cast<size_t>(5 * m.out));
    aerogel_linear_run(linear, x.data(), 5, y.data(), 1);
    aerogel_linear_destroy(linear);
  }
  if (refused * 2 < rounds) Fail("damage was too mild to mean anything");
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1;
  int damage = 20000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--seed")) seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (!std::strcmp(argv[i], "--damage")) damage = std::atoi(argv[i + 1]);
  }
  Random random(seed);
  std::vector<const char*> isas;
  for (int i = 0; i < aerogel_isa_count(); ++i) {
    const char* reason = nullptr;
    const char* name = aerogel_isa(i, &reason);
    std::printf("%-7s %s\n", name, *reason ? reason : "tested");
    if (!*reason) isas.push_back(name);
  }
  const int64_t blocks[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 4}, {3, 5}, {4, 4}, {6, 2}, {16, 16}};
  for (const auto& b : blocks) {
    for (double density : {0.0, 0.1, 0.5, 1.0}) {
      for (int64_t rows : {int64_t{1}, int64_t{5}, 96 / b[0]}) {
        for (int64_t cols : {int64_t{1}, int64_t{7}, 208 / b[1]}) {
          CheckMatrix(random, Make(random, rows * b[0], cols * b[1], b[0], b[1], density, density == 0.5), isas);
        }
      }
    }
  }
  CheckMatrix(random, Make(random, 700, 1, 1, 1, 0.5, true), isas);  // more than one chunk
  Matrix broad = Make(random, 3, 70000, 1, 1, 0.01, false);          // columns beyond 16 bits
  broad.wide = true;
  CheckMatrix(random, broad, isas);
  CheckMatrix(random, Make(random, 8, 9000, 4, 3, 0.3, true), isas);  // more than one tile of a block matrix
  CheckPoison(random, isas);
  CheckCompany(random, isas);
  CheckSizes(random);
  CheckDamage(random, damage);
  std::printf("%s, seed %llu, %d damaged matrices\n", failures ? "FAILED" : "passed",
              static_cast<unsigned long long>(seed), damage);
  return failures != 0;
}
