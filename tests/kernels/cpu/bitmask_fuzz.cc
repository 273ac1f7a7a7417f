// Fuzzes the unpacking of bitmasks: exactly the well-formed ones are accepted, and unpacked correctly.
#include "bitmasks.h"
#include "fuzz.h"

using check::Expect;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check::Bytes bytes(data, size);
  const int64_t rows = bytes.Size(40), columns = bytes.Size(100);
  check::Bitmask m(rows, columns);
  const uint8_t claim = bytes.Byte(), damage = bytes.Byte();
  for (uint8_t& byte : m.bits) byte = bytes.Byte();
  if (damage % 4) {  // mostly without set padding bits
    for (int64_t row = 0; row < rows && columns % 8; ++row) {
      m.bits[static_cast<size_t>((row + 1) * m.Bytes() - 1)] &= static_cast<uint8_t>((1 << columns % 8) - 1);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) m.entries += m.At(row, column);
  }
  if (claim % 4 == 0) m.entries = claim;  // another number than that of the bits
  std::string reason;
  const bool accepted = m.Unpack(&reason);
  Expect(accepted == m.Valid(), accepted ? "accepted" : reason);
  Expect(accepted || !reason.empty(), "refused without a reason");
  Expect(!accepted || m.Unpacked(), "wrong indices");
  return 0;
}
