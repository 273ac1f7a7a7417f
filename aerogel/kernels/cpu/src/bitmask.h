// Matrices stored as one bit per weight: which are kept, row by row, and the kept values in the same order. Kernels
// never see this format: it is unpacked to CSR when a file is loaded.
#pragma once

#include <cstdint>
#include <string>

namespace aerogel {

// Bytes of a row of `columns` bits. The lowest bit of a byte comes first; the last byte is padded with zero bits.
constexpr int64_t BitmaskBytes(int64_t columns) { return columns / 8 + (columns % 8 != 0); }

// Unpacks bits [rows][BitmaskBytes(columns)] to the arrays of a CSR matrix: indptr [rows + 1] and indices [entries].
// Returns an empty text; else what is wrong with the bits, as a predicate, when another number than `entries` of them
// is set or a padding bit is. Reads and writes nothing beyond these arrays.
std::string UnpackBitmask(const uint8_t* bits, int64_t rows, int64_t columns, int64_t entries, int32_t* indptr,
                          int32_t* indices);

}  // namespace aerogel
