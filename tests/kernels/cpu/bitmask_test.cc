// Unpacks bitmasks of many shapes and densities; damaged ones must be rejected.
//
//   bitmask_test [--seed N] [--rounds N]
#include "bitmasks.h"
#include "check.h"

namespace {

using check::Bitmask;
using check::Fail;
using check::Random;

std::string Describe(const Bitmask& m) { return std::to_string(m.rows) + "x" + std::to_string(m.columns); }

Bitmask Make(Random& random, int64_t rows, int64_t columns, double density) {
  Bitmask made(rows, columns);
  std::bernoulli_distribution kept(density);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      if (!kept(random)) continue;
      made.bits[static_cast<size_t>(row * made.Bytes() + column / 8)] |= static_cast<uint8_t>(1 << column % 8);
      ++made.entries;
    }
  }
  return made;
}

void CheckRoundTrips(Random& random, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const double densities[] = {0, 0.1, 0.5, 1};
    Bitmask m = Make(random, static_cast<int64_t>(1 + random() % 40), static_cast<int64_t>(1 + random() % 70),
                     densities[round % 4]);
    std::string reason;
    if (!m.Unpack(&reason) || !m.Unpacked()) Fail(Describe(m) + ": wrong; " + reason);
  }
}

void CheckDamage(Random& random, int rounds) {
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    Bitmask m = Make(random, static_cast<int64_t>(1 + random() % 9), static_cast<int64_t>(1 + random() % 33), 0.4);
    m.bits[random() % m.bits.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    if (random() % 2) m.bits[random() % m.bits.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    if (random() % 8 == 0) m.entries += 1;
    if (random() % 8 == 0 && m.entries > 0) m.entries -= 1;
    std::string reason;
    const bool accepted = m.Unpack(&reason);
    if (accepted != m.Valid()) Fail(Describe(m) + ": " + (accepted ? "accepted" : reason));
    if (!accepted && reason.empty()) Fail("refused without a reason");
    refused += !accepted;
  }
  if (refused * 2 < rounds) Fail("damage was too mild to mean anything");
}

void Refused(Bitmask m, const std::string& expected) {
  std::string reason;
  if (m.Unpack(&reason)) return Fail("accepted where '" + expected + "' was expected");
  if (reason.find(expected) == std::string::npos) Fail("said '" + reason + "' where '" + expected + "' was expected");
}

void CheckMessages() {
  Bitmask m(2, 12);
  m.bits = {0x01, 0x08, 0x80, 0x00};
  m.entries = 3;
  std::string reason;
  if (!m.Unpack(&reason) || !m.Unpacked()) Fail("the sound matrix: " + reason);
  Bitmask other = m;
  other.entries = 4;
  Refused(other, "bitmask has 3 bits set where data has 4 values");
  other.entries = 2;
  Refused(other, "bitmask has more bits set than the 2 values of data");
  other = m;
  other.bits[1] = 0x10;
  Refused(other, "bitmask has a bit set in row 0 beyond its 12 columns");
  char text[256] = "";
  const int64_t huge[] = {0, -1, int64_t{1} << 31, std::numeric_limits<int64_t>::max(),
                          std::numeric_limits<int64_t>::min()};
  for (const int64_t size : huge) {
    int32_t* const indptr = m.indptr.data();
    int32_t* const indices = m.indices.data();
    if (!aerogel_bitmask_unpack(m.bits.data(), size, 12, 3, indptr, indices, text, sizeof text)) Fail("rows");
    if (!aerogel_bitmask_unpack(m.bits.data(), 2, size, 3, indptr, indices, text, sizeof text)) Fail("columns");
    if (!aerogel_bitmask_unpack(m.bits.data(), 2, 12, size, indptr, indices, text, sizeof text)) Fail("entries");
  }
  if (!aerogel_bitmask_unpack(nullptr, 2, 12, 3, m.indptr.data(), m.indices.data(), text, sizeof text)) Fail("no bits");
  if (!aerogel_bitmask_unpack(m.bits.data(), 2, 12, 3, nullptr, m.indices.data(), text, sizeof text)) Fail("no indptr");
  if (!aerogel_bitmask_unpack(m.bits.data(), 2, 12, 3, m.indptr.data(), nullptr, text, sizeof text)) Fail("no indices");
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = check::Option(argc, argv, "--seed", 1);
  const auto rounds = static_cast<int>(check::Option(argc, argv, "--rounds", 2000));
  Random random(seed);
  CheckRoundTrips(random, rounds);
  CheckDamage(random, rounds);
  CheckMessages();
  return check::Finish(seed);
}
