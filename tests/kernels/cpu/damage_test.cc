// Loads damaged matrices of every type: exactly the malformed ones must be rejected, and the others must run.
//
//   damage_test [--seed N] [--rounds N]
#include <algorithm>

#include "matrices.h"

namespace {

using check::Fail;
using check::Kind;
using check::Linear;
using check::Make;
using check::Matrix;
using check::Random;

void Damage(Random& random, Matrix* m) {
  if (!m->bytes.empty() && random() % 8 == 0) {
    m->bytes[random() % m->bytes.size()] = -128;
    return;
  }
  std::vector<int32_t>& victim = random() % 2 && !m->indices.empty() ? m->indices : m->indptr;
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
      number = static_cast<int32_t>(m->in / m->c);
      break;
    default:
      number = std::numeric_limits<int32_t>::max();
      break;
  }
}

// Changes one to three numbers of a valid matrix.
void CheckDamage(Random& random, int rounds) {
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto r = static_cast<int64_t>(1 + random() % 4), c = static_cast<int64_t>(1 + random() % 4);
    const auto rows = static_cast<int64_t>(1 + random() % 20), cols = static_cast<int64_t>(1 + random() % 20);
    Matrix m = Make(random, check::kSparseKinds[round % 3], r * rows, c * cols, r, c, 0.4, false);
    for (auto times = 1 + random() % 3; times > 0; --times) Damage(random, &m);
    std::string error;
    const Linear linear = m.Create(nullptr, &error);
    if ((linear != nullptr) != Valid(m)) {
      Fail(m.Describe() + " of round " + std::to_string(round) + ": " + (linear ? "accepted" : error));
    }
    if (!linear) {
      ++refused;
      if (error.empty()) Fail("refused without a reason");
      continue;
    }
    const std::vector<float> x(static_cast<size_t>(5 * m.in), 1.0f);
    std::vector<float> y = check::Poisoned(5 * m.out);
    aerogel_linear_run(linear.get(), x.data(), 5, y.data(), 1);
    if (std::any_of(y.begin(), y.end(), [](float v) { return v != v; })) Fail(m.Describe() + ": left as it was");
  }
  if (refused * 2 < rounds) Fail("damage was too mild to mean anything");
}

void Refused(const Matrix& m, const std::string& reason) {
  std::string error;
  if (m.Create(nullptr, &error)) return Fail("accepted where '" + reason + "' was expected");
  if (error.find(reason) == std::string::npos) Fail("said '" + error + "' where '" + reason + "' was expected");
}

// Claims sizes that do not match the arrays. All must be rejected before anything is read or allocated.
void CheckSizes(Random& random) {
  const int64_t huge[] = {0,
                          -1,
                          int64_t{1} << 31,
                          int64_t{1} << 40,
                          std::numeric_limits<int64_t>::max(),
                          std::numeric_limits<int64_t>::min()};
  for (const Kind kind : check::kKinds) {
    for (const int64_t size : huge) {
      for (int64_t Matrix::* field : {&Matrix::out, &Matrix::in}) {
        Matrix m = Make(random, kind, 12, 12, 1, 1, 0.5, false);
        m.*field = size;
        Refused(m, "dimension " + std::to_string(size) + " is not in [1, 2147483647]");
      }
      for (int64_t Matrix::* field : {&Matrix::r, &Matrix::c}) {
        if (kind == Kind::kDense) break;
        Matrix m = Make(random, kind, 12, 12, 2, 2, 0.5, false);
        m.*field = size;
        Refused(m, "data has blocks of ");
        Refused(m, "dimension " + std::to_string(size) + " is not in [1, 2147483647]");
      }
      if (kind == Kind::kDense || size <= 0) continue;  // -1 means the true number
      Matrix m = Make(random, kind, 12, 12, 2, 2, 0.5, false);
      m.entries = size;
      Refused(m, "are more than 2147483647 values");
    }
    if (kind == Kind::kDense) continue;
    Matrix fewer = Make(random, kind, 12, 12, 1, 1, 0.5, false);
    fewer.entries = 0;
    Refused(fewer, "indptr must run from 0 to 0");
    Matrix odd = Make(random, kind, 12, 12, 2, 2, 0.5, false);
    odd.c = 5;
    Refused(odd, "data has blocks of 2x5, which do not divide a matrix of 12x12");
    Matrix vast = Make(random, kind, 12, 12, 1, 1, 0.5, false);
    vast.out = vast.in = int64_t{1} << 20;
    Refused(vast, "more than 2^36 elements");
  }
  Matrix wide = Make(random, Kind::kFloat32, 1, 1, 1, 1, 0.0, false);
  wide.in = int64_t{1} << 20;
  std::string error;
  if (!wide.Create(nullptr, &error)) Fail("refused a wide matrix without entries: " + error);
  for (const int64_t more : {int64_t{1}, int64_t{std::numeric_limits<int32_t>::max()} - wide.in}) {
    Matrix vaster = wide;
    vaster.in += more;
    Refused(vaster, std::to_string(vaster.in) + " columns are more than the 1048576 that a sparse matrix may have");
  }
  Matrix wider = Make(random, Kind::kInt8, 1, 65536, 1, 1, 0.0, false);
  wider.in = 65537;
  Refused(wider, "sums of more than 65536 products could exceed 32 bits");
}

void CheckKinds(Random& random) {
  const Matrix m = Make(random, Kind::kFloat32, 12, 12, 1, 1, 0.5, false);
  for (const int kind : {-1, 3, 1 << 30}) {
    AerogelMatrix view = m.View();
    view.dtype = kind;
    char error[128] = "";
    if (AerogelLinear* linear = aerogel_linear_create(&view, nullptr, error, sizeof error)) {
      aerogel_linear_destroy(linear);
      Fail("accepted values of kind " + std::to_string(kind));
    } else if (!std::strstr(error, "kind")) {
      Fail("kind " + std::to_string(kind) + " refused for another reason: " + error);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = check::Option(argc, argv, "--seed", 1);
  Random random(seed);
  CheckSizes(random);
  CheckKinds(random);
  CheckDamage(random, static_cast<int>(check::Option(argc, argv, "--rounds", 20000)));
  return check::Finish(seed);
}
