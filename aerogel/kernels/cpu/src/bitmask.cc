#include "bitmask.h"

namespace aerogel {

std::string UnpackBitmask(const uint8_t* bits, int64_t rows, int64_t columns, int64_t entries, int32_t* indptr,
                          int32_t* indices) {
  const int64_t bytes = BitmaskBytes(columns);
  int64_t count = 0;
  indptr[0] = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* const line = bits + row * bytes;
    for (int64_t i = 0; i < bytes; ++i) {
      for (unsigned left = line[i]; left; left &= left - 1) {
        const int64_t column = i * 8 + __builtin_ctz(left);
        if (column >= columns) {
          return "has a bit set in row " + std::to_string(row) + " beyond its " + std::to_string(columns) + " columns";
        }
        if (count == entries) return "has more bits set than the " + std::to_string(entries) + " values of data";
        indices[count++] = static_cast<int32_t>(column);
      }
    }
    indptr[row + 1] = static_cast<int32_t>(count);
  }
  if (count == entries) return {};
  return "has " + std::to_string(count) + " bits set where data has " + std::to_string(entries) + " values";
}

}  // namespace aerogel
