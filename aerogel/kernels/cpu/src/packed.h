// The physical layout of a sparse matrix inside the kernels. Private to this library: files hold plain CSR or BSR.
//
// Rows are cut into chunks (the unit of parallel work), columns into tiles (so that the activations a tile reads stay
// in the first-level cache), and rows into panels of `height` rows that share their columns: 1 for CSR, 2 or 4 for
// blocks of such heights. Within one chunk and tile, panels are sorted by their number of entries, so that the branch
// which ends a panel's loop is predicted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

// A CSR (rows = cols = 1 in `block_*`) or BSR matrix as it lies in a file. Nothing is owned.
struct SparseView {
  int64_t out_features;
  int64_t in_features;
  int64_t block_rows;
  int64_t block_cols;
  int64_t entries;          // stored blocks
  const float* data;        // [entries, block_rows, block_cols]
  const void* indices;      // [entries], block columns
  bool wide_indices;        // int32 instead of uint16
  const int32_t* indptr;    // [out_features / block_rows + 1]
};

// Reads every index. Returns an empty string, or what is wrong.
std::string Validate(const SparseView& matrix);

// What a kernel needs to know of the layout; one instruction set's preference (see kernels.h).
struct Tiling {
  int64_t chunk_rows;  // at most 65,535
  int64_t tile_cols;   // at most 65,535
};

struct Segment {           // one chunk x tile
  size_t first_panel;      // index into PackedMatrix::panels
  size_t panels;           // how many
  size_t first_column;     // index into PackedMatrix::columns
  size_t first_value;      // index into PackedMatrix::values
};

struct Panel {
  uint16_t row;    // first row, counted from the chunk's first
  uint16_t count;  // entries
};

struct PackedMatrix {
  int64_t out_features = 0;
  int64_t in_features = 0;
  int height = 1;  // rows per panel: 1, 2 or 4
  Tiling tiling{};
  int64_t chunks = 0;
  int64_t tiles = 0;
  std::vector<Segment> segments;   // [chunks, tiles]
  std::vector<Panel> panels;       // those without entries are left out
  std::vector<uint16_t> columns;   // counted from the tile's first
  std::vector<float> values;       // `height` values an entry, in the order of `columns`
};

// Height of panels that suits blocks of `block_rows` rows.
int PanelHeight(int64_t block_rows);

// `matrix` must have passed Validate.
PackedMatrix Pack(const SparseView& matrix, const Tiling& tiling);

}  // namespace aerogel
