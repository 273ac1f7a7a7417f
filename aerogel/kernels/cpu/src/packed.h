// The order in which the kernels walk a sparse matrix. Private to this library: files contain plain CSR or BSR.
//
// A column is one feature, or four neighbouring features where weights are eight-bit. Rows are cut into chunks, the
// unit of parallel work, of about equal numbers of entries. Columns are cut into tiles, so that the activations that a
// tile reads stay in the first-level cache. A panel is the entries in one tile of `panel_rows` rows (1, 2 or 4) that
// share their columns. Within a chunk and tile, panels are sorted by length, and those of one length form a group: a
// group runs through code unrolled for its length, without a branch that could be mispredicted.
//
// A chunk of 5 panels and 2 tiles of 8 columns, stored entries as letters:
//
//              tile 0            tile 1          memory, tile by tile, longest panels first:
//            0 1 2 3 4 5 6 7   0 1 2 3 4 5 6 7
//   panel 0  a . . b . . . .   . . c . . . . .     segment (tile 0)  group {3, 1 panel}   panel 2  d e f
//   panel 1  . . . . . . . .   . g . . . . . .                       group {2, 2 panels}  panel 0  a b
//   panel 2  d . e . . f . .   . . . . . . . .                                            panel 3  h i
//   panel 3  . h . . . . i .   j . . . . k . .                       group {1, 1 panel}   panel 4  l
//   panel 4  . . . l . . . .   . . . . . . . .     segment (tile 1)  group {2, 1 panel}   panel 3  j k
//                                                                    group {1, 2 panels}  panel 0  c
//   empty_rows: those of panel 1, which no group of                                       panel 1  g
//   the first tile initializes
//
//   columns        0 2 5 | 0 3 | 1 6 | 3 | 0 5 | 2 | 1     one byte per entry, counted from its tile's first column
//   rows           2 0 3 4 3 0 1                           times panel_rows: each panel's first row in the chunk
//   value_offsets  where the values of d, a, h, l, j, c, g begin; the panel's others follow
//
// Each entry has panel_rows values, [columns][panel_rows]. They are read in place, from the file's own array, where
// their order within a panel is the same there (CSR, blocks of panel_rows x 1, eight-bit blocks of panel_rows x 4), a
// chunk has few of them and the array is aligned for it; otherwise they are copied in the order of use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "c_api.h"
#include "status.h"

namespace aerogel {

enum class DType { kFloat32 = AEROGEL_FLOAT32, kFloat16 = AEROGEL_FLOAT16, kInt8 = AEROGEL_INT8 };

// Features in a column.
constexpr int64_t ColumnFeatures(DType dtype) { return dtype == DType::kInt8 ? 4 : 1; }
// Bytes of one row's value in a column.
constexpr int64_t ValueBytes(DType dtype) { return dtype == DType::kFloat16 ? 2 : 4; }

// The type of a matrix's values; the matrix must have passed Validate.
inline DType DTypeOf(const AerogelMatrix& m) { return static_cast<DType>(m.dtype); }

// The column of blocks of entry i.
inline int64_t IndexAt(const AerogelMatrix& m, int64_t i) {
  return m.wide_indices ? static_cast<const int32_t*>(m.indices)[i] : static_cast<const uint16_t*>(m.indices)[i];
}

// Whether a matrix may have these sizes, before anything is read or allocated by them.
Status ValidateSizes(int64_t out_features, int64_t in_features);

// Whether a sparse matrix is well formed. Reads every index, and every eight-bit value (-128 is refused); neither scale
// nor bias.
Status Validate(const AerogelMatrix& matrix);

struct Tiling {
  int64_t chunks;     // wanted; more where one would exceed 65,532 rows
  int64_t tile_cols;  // about; at most 256
};

// The panels of one length in a chunk and tile.
struct Group {
  uint16_t count;  // entries of each panel, never 0
  uint16_t panels;
};

// What a chunk has in a tile: everything up to the next segment's.
struct Segment {
  size_t first_group;  // index into PackedMatrix::groups
  size_t first_panel;  // index into `value_offsets` and `rows`
  size_t first_entry;  // index into `columns`
};

struct Chunk {
  int64_t row;
  int64_t rows;
  size_t first_empty;  // index into PackedMatrix::empty_rows
  size_t empty_count;
};

// Movable, since a moved vector keeps its elements' addresses; a copy's `values` would point into the original.
struct PackedMatrix {
  PackedMatrix() = default;
  PackedMatrix(PackedMatrix&&) = default;
  PackedMatrix& operator=(PackedMatrix&&) = default;

  int64_t out_features = 0;
  int64_t in_features = 0;
  DType dtype = DType::kFloat32;
  int panel_rows = 1;  // 1, 2 or 4
  int64_t tile_cols = 0;
  int64_t tiles = 0;
  std::vector<Chunk> chunks;
  std::vector<Segment> segments;  // [chunks * tiles + 1]
  std::vector<Group> groups;
  std::vector<uint32_t> value_offsets;  // [panels + kValuesAhead], index of a panel's first value in `values`, in units
                                        // of panel_rows * ValueBytes(dtype) bytes
  std::vector<uint16_t> rows;           // [panels + kSumsAhead], a panel's first row, counted from the chunk's
  std::vector<uint8_t> columns;         // [entries]
  std::vector<uint16_t> empty_rows;     // rows, counted from their chunk's first, without an entry in the first tile
  std::vector<char> own_values;         // empty where `values` is the file's array
  const void* values = nullptr;
  bool in_place = false;
  std::vector<int32_t> row_sums;  // [out_features] of the integers, where values are eight-bit
};

// How many panels ahead the kernels prefetch sums and values; `rows` and `value_offsets` have as many spare elements at
// their ends.
constexpr int kSumsAhead = 2;
constexpr int kValuesAhead = 16;

// Packs a matrix that has passed Validate; its data must outlive the result. keep: null, or [out_features], whether a
// row's results are used; the entries of other rows are left out.
PackedMatrix Pack(const AerogelMatrix& matrix, const Tiling& tiling, const std::vector<bool>* keep = nullptr);

// The sizes of a packed matrix, see c_api.h. stored: values that the file stores.
AerogelMatrixStats StatsOf(const PackedMatrix& packed, int64_t stored);

}  // namespace aerogel
