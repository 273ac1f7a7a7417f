// Compares the products of every instruction set of this machine and every type of matrix with float64.
//
// Needs only the library, so that the same program runs natively, under the sanitizers and under an emulator of
// another architecture.
//
//   kernel_test [--seed N]
#include <algorithm>
#include <cmath>
#include <thread>

#include "matrices.h"

namespace {

using check::Fail;
using check::Kind;
using check::kNaN;
using check::Linear;
using check::Make;
using check::MakeRows;
using check::Matrix;
using check::Poisoned;
using check::Random;
using Names = std::vector<const char*>;

// Computes one product; the output is filled with NaN first.
std::vector<float> Run(const Linear& linear, const Matrix& m, const float* x, int64_t tokens, int threads) {
  std::vector<float> y = Poisoned(tokens * m.out);
  if (aerogel_linear_run(linear.get(), x, tokens, y.data(), threads)) Fail("run");
  return y;
}

Linear Create(const std::string& what, const Matrix& m, const char* isa) {
  std::string error;
  Linear linear = m.Create(isa, &error);
  if (!linear) Fail(what + ": " + error);
  return linear;
}

// Checks products of `counts` tokens: correct, and bit-identical on one and on three threads.
void CheckMatrix(Random& random, const Matrix& m, const Names& isas, const std::vector<int64_t>& counts) {
  for (const int64_t tokens : counts) {
    const std::vector<float> x = check::Activations(random, m, tokens);
    const check::Product expected = Multiply(m, x, tokens);
    for (const char* isa : isas) {
      const std::string what = std::string(isa) + " " + m.Describe() + " tokens " + std::to_string(tokens);
      const Linear linear = Create(what, m, isa);
      if (!linear) continue;
      const std::vector<float> y = Run(linear, m, x.data(), tokens, 1);
      Compare(what, y, expected);
      if (!check::SameBits(y.data(), Run(linear, m, x.data(), tokens, 3).data(), tokens * m.out)) {
        Fail(what + ": depends on threads");
      }
    }
  }
}

// Shapes that do not fill a tile evenly.
void CheckShapes(Random& random, const Names& isas) {
  const int64_t blocks[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {16, 1}, {1, 4},
                               {2, 4}, {4, 4}, {3, 5}, {6, 2}, {1, 8},  {16, 16}};
  for (const Kind kind : check::kSparseKinds) {
    for (const auto& b : blocks) {
      for (const double density : {0.0, 0.1, 0.5, 1.0}) {
        for (const int64_t rows : {int64_t{1}, int64_t{5}, 96 / b[0]}) {
          for (const int64_t cols : {int64_t{1}, int64_t{7}, 208 / b[1]}) {
            const Matrix m = Make(random, kind, rows * b[0], cols * b[1], b[0], b[1], density, density == 0.5);
            // One token count per shape, a different one each time; few for large shapes.
            static size_t turn = 0;
            const int64_t counts[] = {1, 3, 4, 15, 16, 17, 31, 33, 47, 64, 65, 100, 127, 129};
            CheckMatrix(random, m, isas, {counts[turn++ % (sizeof counts / sizeof *counts)]});
          }
        }
      }
    }
  }
  for (const int64_t in : {1, 2, 127, 128, 129, 300}) {
    for (const int64_t out : {1, 2, 3, 4, 5, 7, 64, 131}) {
      CheckMatrix(random, Make(random, Kind::kDense, out, in, 1, 1, 1, false), isas, {1 + (in * out) % 140});
    }
  }
}

// Rows of every length, beyond the unrolled ones, and one row that is far longer than the others.
void CheckLengths(Random& random, const Names& isas) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 72; ++i) lengths.push_back(i * 29 % 72);
  std::vector<int64_t> skewed(200, 1);
  skewed[77] = 500;
  for (const Kind kind : check::kSparseKinds) {
    for (const int64_t height : {1, 2, 4}) {
      const int64_t width = kind == Kind::kInt8 ? 4 : 1;
      CheckMatrix(random, MakeRows(random, kind, lengths, 72 * width, height, width), isas, {33});
      CheckMatrix(random, MakeRows(random, kind, skewed, 500 * width, height, width), isas, {21});
    }
  }
}

// More than one chunk of rows, more than one tile of columns, indices beyond 16 bits.
void CheckLarge(Random& random, const Names& isas) {
  for (const Kind kind : check::kSparseKinds) {
    CheckMatrix(random, Make(random, kind, 700, 1, 1, 1, 0.5, true), isas, {3, 128, 513});
    CheckMatrix(random, Make(random, kind, 8, 9000, 4, 3, 0.3, true), isas, {3, 65});
    CheckMatrix(random, Make(random, kind, 520, 640, 1, 1, 0.05, true), isas, {70});
    Matrix broad = Make(random, kind, 3, kind == Kind::kInt8 ? 65536 : 70000, 1, 1, 0.01, false);
    broad.wide = true;
    CheckMatrix(random, broad, isas, {2, 17});
  }
  // The largest possible int8 sums: all values of one sign, in every column.
  Matrix most = Make(random, Kind::kInt8, 2, 65536, 1, 1, 1.0, false);
  most.wide = true;
  std::fill(most.values.begin(), most.values.end(), 127.0f);
  std::fill(most.values.begin() + 65536, most.values.end(), -127.0f);
  most.Store();
  for (const char* isa : isas) {
    const std::vector<float> x(65536, 1.0f);
    const Linear linear = Create(isa, most, isa);
    Compare(std::string(isa) + " largest sums", Run(linear, most, x.data(), 1, 1), Multiply(most, x, 1));
  }
}

// A token's result is bit-identical alone, among others, at any position and on any number of threads.
void CheckCompany(Random& random, const Names& isas) {
  constexpr int64_t kTokens = 513;
  const int64_t blocks[][2] = {{1, 1}, {2, 1}, {4, 1}, {1, 4}, {3, 5}};
  for (const Kind kind : check::kKinds) {
    for (const auto& b : blocks) {
      if (kind == Kind::kDense && b[0] * b[1] > 1) continue;
      const Matrix m = Make(random, kind, b[0] * (90 / b[0]), b[1] * (170 / b[1]), b[0], b[1], 0.2, true);
      const std::vector<float> x = check::Activations(random, m, kTokens);
      const check::Product expected = Multiply(m, x, kTokens);
      for (const char* isa : isas) {
        const std::string what = std::string(isa) + " " + m.Describe();
        const Linear linear = Create(what, m, isa);
        if (!linear) continue;
        const std::vector<float> all = Run(linear, m, x.data(), kTokens, 1);
        Compare(what, all, expected);
        for (int64_t tokens = 1; tokens <= 130; ++tokens) {
          const auto first = static_cast<int64_t>(random() % (kTokens - 130));
          const std::vector<float> some = Run(linear, m, x.data() + first * m.in, tokens, 1);
          if (check::SameBits(some.data(), all.data() + first * m.out, tokens * m.out)) continue;
          Fail(what + ": " + std::to_string(tokens) + " tokens from " + std::to_string(first) +
               " depend on the others");
          break;
        }
        for (const int threads : {2, 3, 8}) {
          if (check::SameBits(all.data(), Run(linear, m, x.data(), kTokens, threads).data(), kTokens * m.out)) continue;
          Fail(what + ": depends on threads");
        }
      }
    }
  }
}

// Calls one matrix from several threads at once.
void CheckConcurrency(Random& random, const Names& isas) {
  const Matrix m = Make(random, Kind::kInt8, 64, 80, 1, 4, 0.3, false);
  for (const char* isa : isas) {
    const Linear linear = Create(isa, m, isa);
    std::vector<std::vector<float>> x, y(4);
    for (int i = 0; i < 4; ++i) x.push_back(check::Activations(random, m, 60 + i));
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        for (int times = 0; times < 5; ++times) y[i] = Run(linear, m, x[i].data(), 60 + static_cast<int>(i), 2);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < 4; ++i) {
      Compare(std::string(isa) + " among other calls", y[i], Multiply(m, x[i], 60 + static_cast<int>(i)));
    }
  }
}

// A token's result must not depend on other tokens, and NaN in an empty column must not affect it.
void CheckPoison(Random& random, const Names& isas) {
  constexpr int64_t kTokens = 21, kPoisoned = 5, kPruned = 7;  // column 7 = 2 (mod 5) is empty, see Make
  for (const Kind kind : check::kKinds) {
    const Matrix m = Make(random, kind, 40, 48, 1, 1, 0.4, true);
    std::vector<float> x = check::Uniforms(random, kTokens * m.in);
    // Quantization and dense matrices read every column.
    for (int64_t t = 0; t < kTokens && (kind == Kind::kFloat32 || kind == Kind::kFloat16); ++t) {
      x[t * m.in + kPruned] = kNaN;
    }
    std::fill_n(x.begin() + kPoisoned * m.in, m.in, kNaN);
    for (const char* isa : isas) {
      const Linear linear = Create(isa, m, isa);
      const std::vector<float> y = Run(linear, m, x.data(), kTokens, 1);
      for (int64_t i = 0; i < kTokens * m.out; ++i) {
        const int64_t n = i % m.out;
        // The result of an empty row is its bias, for any token; with int8 weights NaN reaches it through the scale.
        const bool reads = kind == Kind::kDense || kind == Kind::kInt8 || m.indptr[n] != m.indptr[n + 1];
        if (std::isnan(y[i]) == (i / m.out == kPoisoned && reads)) continue;
        Fail(std::string(isa) + " " + m.Describe() + ": NaN spreads, or is lost, at " + std::to_string(i));
        break;
      }
    }
  }
}

// Every fp16 number is widened exactly.
void CheckHalves(Random& random, const Names& isas) {
  Matrix four = check::Start(random, Kind::kFloat16, 16384, 4, 1, 1);  // loaded four at a time
  Matrix one = check::Start(random, Kind::kFloat16, 65536, 1, 1, 1);   // loaded one at a time
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    four.halves.push_back(static_cast<uint16_t>((bits & 0x7c00) == 0x7c00 ? 0 : bits));  // infinity times 0 is NaN
    four.indices.push_back(static_cast<int32_t>(bits % 4));
    if (bits % 4 == 3) four.EndRow();
    one.halves.push_back(static_cast<uint16_t>(bits));
    one.indices.push_back(0);
    one.EndRow();
  }
  for (Matrix* m : {&one, &four}) {
    std::fill(m->bias.begin(), m->bias.end(), 0.0f);
    const std::vector<float> unit = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    for (const char* isa : isas) {
      const Linear linear = Create(isa, *m, isa);
      const std::vector<float> y = Run(linear, *m, unit.data(), m->in, 1);
      for (size_t i = 0; i < 65536; ++i) {
        const double wanted = check::HalfValue(m->halves[i]);
        const double got =
            y[i % static_cast<size_t>(m->in) * static_cast<size_t>(m->out) + i / static_cast<size_t>(m->in)];
        if (got == wanted || (std::isnan(got) && std::isnan(wanted))) continue;
        Fail(std::string(isa) + ": half " + std::to_string(i) + " is " + std::to_string(got));
        break;
      }
    }
  }
}

// NaN and Inf weights and scales are accepted. They affect the rows that contain them, as in the function body, and no
// other rows.
void CheckNotFinite(Random& random, const Names& isas) {
  for (const Kind kind : {Kind::kFloat32, Kind::kInt8}) {
    Matrix m = Make(random, kind, 6, 40, 1, 1, 1.0, false);
    (kind == Kind::kInt8 ? m.scale[2] : m.values[80]) = kNaN;
    (kind == Kind::kInt8 ? m.scale[4] : m.values[160]) = HUGE_VALF;
    const std::vector<float> x = check::Uniforms(random, 3 * m.in);
    for (const char* isa : isas) {
      const std::vector<float> y = Run(Create(isa, m, isa), m, x.data(), 3, 1);
      for (size_t i = 0; i < y.size(); ++i) {
        const size_t n = i % 6;
        if (n == 2 ? std::isnan(y[i]) : n == 4 ? std::isinf(y[i]) : std::isfinite(y[i])) continue;
        Fail(std::string(isa) + " " + m.Describe() + ": row " + std::to_string(n) + " is " + std::to_string(y[i]));
        break;
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = check::Option(argc, argv, "--seed", 1);
  Random random(seed);
  const Names isas = check::Isas();
  CheckShapes(random, isas);
  CheckLengths(random, isas);
  CheckLarge(random, isas);
  CheckCompany(random, isas);
  CheckConcurrency(random, isas);
  CheckPoison(random, isas);
  CheckHalves(random, isas);
  CheckNotFinite(random, isas);
  return check::Finish(seed);
}
