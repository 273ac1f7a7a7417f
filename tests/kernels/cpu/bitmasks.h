// A matrix stored as a bitmask, shared by its test and its fuzzing program. Buffers on the heap have exactly the
// promised size, so that the address sanitizer guards their ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "c_api.h"

namespace check {

struct Bitmask {
  int64_t rows = 0, columns = 0, entries = 0;
  std::vector<uint8_t> bits;             // [rows][ceil(columns / 8)]
  std::vector<int32_t> indptr, indices;  // filled by Unpack

  Bitmask(int64_t rows_, int64_t columns_)
      : rows(rows_),
        columns(columns_),
        bits(static_cast<size_t>(rows * Bytes())),
        indptr(static_cast<size_t>(rows + 1)) {}

  int64_t Bytes() const { return (columns + 7) / 8; }

  bool At(int64_t row, int64_t column) const {
    return bits[static_cast<size_t>(row * Bytes() + column / 8)] >> (column % 8) & 1;
  }

  // Whether exactly `entries` bits are set, none of them in the padding.
  bool Valid() const {
    int64_t set = 0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < Bytes() * 8; ++column) {
        if (!At(row, column)) continue;
        if (column >= columns) return false;
        ++set;
      }
    }
    return set == entries;
  }

  // Whether the library accepts it; with the reason if it does not.
  bool Unpack(std::string* reason) {
    indices.assign(static_cast<size_t>(entries), -1);
    char text[256] = "";
    const int refused =
        aerogel_bitmask_unpack(bits.data(), rows, columns, entries, indptr.data(), indices.data(), text, sizeof text);
    *reason = text;
    return refused == 0;
  }

  // Whether the unpacked arrays are those of the bits.
  bool Unpacked() const {
    size_t next = 0;
    for (int64_t row = 0; row < rows; ++row) {
      if (indptr[static_cast<size_t>(row)] != static_cast<int32_t>(next)) return false;
      for (int64_t column = 0; column < columns; ++column) {
        if (At(row, column) && indices[next++] != column) return false;
      }
    }
    return indptr.back() == static_cast<int32_t>(next) && next == indices.size();
  }
};

}  // namespace check
