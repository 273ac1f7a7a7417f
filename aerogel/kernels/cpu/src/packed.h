// The order in which the kernels walk a sparse matrix. Private to this library: files hold plain CSR or BSR.
//
// Rows are cut into chunks, the unit of parallel work, at equal numbers of entries; columns into tiles, so that the
// activations which a tile reads stay in the first-level cache. A panel is what `height` rows that share their columns
// have in one tile. Within a chunk and tile, panels are sorted by length and those of one length form a group: each
// group runs through code unrolled for its length, without a branch that could be predicted wrongly.
//
// A column is a feature, or four neighbouring features where weights are eight-bit. Columns are copied in the order of
// use, as single bytes counted from their tile's first. Values are read from the file's own array where their order
// within a panel is the same there (CSR, blocks of height x 1, eight-bit blocks of 1 x 4), a chunk has few of them and
// the array lies at a multiple of what is read at once, else they are copied in the order of use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aerogel {

enum class Values { kFloat32, kFloat16, kInt8 };

// A CSR (block 1 x 1) or BSR matrix as it lies in a file. Nothing is owned.
struct SparseView {
  int64_t out_features;
  int64_t in_features;
  int64_t block_rows;
  int64_t block_cols;
  int64_t entries;  // stored blocks
  Values kind;
  const void* data;       // [entries, block_rows, block_cols] of the kind's type, at any address
  const void* indices;    // [entries], block columns
  bool wide_indices;      // int32 instead of uint16
  const int32_t* indptr;  // [out_features / block_rows + 1]
};

inline int64_t IndexAt(const SparseView& m, int64_t i) {
  return m.wide_indices ? static_cast<const int32_t*>(m.indices)[i] : static_cast<const uint16_t*>(m.indices)[i];
}

// Which of a matrix's arrays is at fault; they are in the order in which operators take them.
enum class Part { kSizes, kData, kIndices, kIndptr };

// What is wrong with a matrix; nothing where `text` is empty.
struct Fault {
  Part part = Part::kSizes;
  std::string text;  // says it of `part`, but is whole where that is kSizes

  explicit operator bool() const { return !text.empty(); }
};

// The name of an array.
const char* Name(Part part);

// A fault in words.
std::string Tell(const Fault& fault);

// Whether a matrix may have these sizes, before anything is read or allocated by them.
Fault ValidateSizes(int64_t out_features, int64_t in_features);

// Reads every index, and every eight-bit value (-128 is refused).
Fault Validate(const SparseView& matrix);

struct Tiling {
  int64_t chunks;     // wanted; more where one would exceed 65,535 rows
  int64_t tile_cols;  // about; at most 256
};

struct Group {
  uint16_t count;  // entries of each panel, never 0
  uint16_t panels;
};

struct Segment {       // what a chunk has in a tile; all up to the next segment's
  size_t first_group;  // index into PackedMatrix::groups
  size_t first_panel;  // index into `firsts` and `rows`
  size_t first_entry;  // index into `columns`
};

struct Chunk {
  int64_t row;
  int64_t rows;
  size_t first_idle;  // index into PackedMatrix::idle_rows
  size_t idle;
};

// Movable, since vectors keep their elements' places when moved; a copy would point into the original.
struct PackedMatrix {
  PackedMatrix() = default;
  PackedMatrix(PackedMatrix&&) = default;
  PackedMatrix& operator=(PackedMatrix&&) = default;

  int64_t out_features = 0;
  int64_t in_features = 0;
  Values kind = Values::kFloat32;
  int height = 1;  // rows per panel: 1, 2 or 4
  int64_t tile_cols = 0;
  int64_t tiles = 0;
  std::vector<Chunk> chunks;
  std::vector<Segment> segments;  // [chunks * tiles + 1]
  std::vector<Group> groups;
  std::vector<uint32_t> firsts;     // [panels + spare], index of a panel's first value, in units of 4 bytes x height
                                    // (2 bytes where values are float16)
  std::vector<uint16_t> rows;       // [panels + spare], a panel's first row, counted from the chunk's
  std::vector<uint8_t> columns;     // [entries]
  std::vector<uint16_t> idle_rows;  // rows, counted from their chunk's first, without an entry in the first tile
  std::vector<char> own_values;     // empty where `values` is the file's array
  const void* values = nullptr;
  bool in_place = false;
  std::vector<int32_t> row_sums;  // [out_features] of the integers, where values are eight-bit
};

// How many panels ahead the kernels prefetch sums and values; `rows` and `firsts` have as many spare places at their
// ends.
constexpr int kSumsAhead = 2;
constexpr int kValuesAhead = 16;

// Features in a column.
constexpr int64_t ColumnFeatures(Values kind) { return kind == Values::kInt8 ? 4 : 1; }
// Bytes of one row's value in a column.
constexpr int64_t ValueBytes(Values kind) { return kind == Values::kFloat16 ? 2 : 4; }

// `matrix` must have passed Validate, and its data must outlive the result. keep: null, or per row whether anyone reads
// its results; the entries of the others are left out.
PackedMatrix Pack(const SparseView& matrix, const Tiling& tiling, const std::vector<bool>* keep = nullptr);

}  // namespace aerogel
