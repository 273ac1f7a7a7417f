// The order in which the kernels walk a sparse matrix. Private to this library: files hold plain CSR or BSR.
//
// Rows are cut into chunks, the unit of parallel work, and into panels of `height` rows that share their columns.
//
// Height 1 (CSR, and blocks of odd height): columns are cut into tiles too, so that the activations a tile reads stay
// in the first-level cache. A panel is what one row has in one tile. Columns are copied in the order of use, as single
// bytes; within a chunk and tile, panels are sorted by length, so that the branch which ends a panel's loop is
// predicted (12% on 3072 x 768 at 10%). Values are copied in that order too where rows are long. CSR rows of up to 1024
// columns are short enough for a chunk's values to stay in the second-level cache, and are read from the file's own
// array: 6% slower than a copy, which would take another 22 MB of a BERT-base at 10% density.
//
// Height 2 or 4 (blocks of such heights): an entry does two or four rows' work per activation, and the activations may
// come from the second-level cache. There is one tile, a panel is a whole row of blocks, and entries keep the order of
// the file: where blocks are height x 1 nothing is copied, panels read the file's own arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

// A CSR (block 1 x 1) or BSR matrix as it lies in a file. Nothing is owned.
struct SparseView {
  int64_t out_features;
  int64_t in_features;
  int64_t block_rows;
  int64_t block_cols;
  int64_t entries;        // stored blocks
  const float* data;      // [entries, block_rows, block_cols]
  const void* indices;    // [entries], block columns
  bool wide_indices;      // int32 instead of uint16
  const int32_t* indptr;  // [out_features / block_rows + 1]
};

// Reads every index. Returns an empty string, or what is wrong.
std::string Validate(const SparseView& matrix);

struct Tiling {
  int64_t chunk_rows;  // at most 65,535
  int64_t tile_cols;   // at most 256; for panels of height 1
};

struct Panel {
  uint32_t first;  // index into the values, in units of `height`
  uint16_t row;    // first row, counted from the chunk's first
  uint16_t count;  // entries, never 0
};

struct Segment {       // what a chunk has in a tile; the panels and entries up to the next segment's
  size_t first_panel;  // index into PackedMatrix::panels
  size_t first_entry;  // index into the columns and (times `height`) the values
};

// Movable, since vectors keep their elements' places when moved; a copy would point into the original.
struct PackedMatrix {
  PackedMatrix() = default;
  PackedMatrix(PackedMatrix&&) = default;

  int64_t out_features = 0;
  int64_t in_features = 0;
  int height = 1;  // rows per panel: 1, 2 or 4
  Tiling tiling{};
  int64_t chunks = 0;
  int64_t tiles = 0;
  std::vector<Segment> segments;  // [chunks * tiles + 1]
  std::vector<Panel> panels;
  const uint8_t* near_columns = nullptr;  // height 1: of every entry, counted from the tile's first
  const uint16_t* columns = nullptr;      // height 2 and 4: of every entry
  const float* values = nullptr;          // [entries, height]
  bool rows_in_place = false;             // height 1: `values` is the file's array, in the order of rows
  std::vector<uint8_t> own_near_columns;
  std::vector<uint16_t> own_columns;  // empty where `columns` is the file's array
  std::vector<float> own_values;      // empty where `values` is the file's array
};

// Height of panels that suits a matrix.
int PanelHeight(const SparseView& matrix);

// `matrix` must have passed Validate, and its data and indices must outlive the result.
PackedMatrix Pack(const SparseView& matrix, const Tiling& tiling);

}  // namespace aerogel
