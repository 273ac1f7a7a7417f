#include "packed.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace aerogel {
namespace {

// Columns of a tile that one byte can number.
constexpr int64_t kMaxTileCols = 256;

// Values read in place are read out of order, so a chunk's must stay in the second-level cache. At 10% density that
// costs 3072 x 768 a sixth of its speed and 768 x 768 nothing.
constexpr int64_t kMaxInPlaceBytes = 256 << 10;

// 65,536 products of 255 x 127 are the most, as a power of two, that fit in 31 bits.
constexpr int64_t kMaxInt8Features = 65536;
constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();
// Columns that a sparse matrix may have. A file of a few bytes may claim any number of them, since their number is an
// attribute, and the table of segments has an entry for every tile of columns.
constexpr int64_t kMaxColumns = int64_t{1} << 20;

std::string Size(int64_t rows, int64_t cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

// Rows of a panel: the largest of 4, 2 and 1 that divides the height of a block.
int PanelRows(const AerogelMatrix& m) { return m.block_rows % 4 == 0 ? 4 : m.block_rows % 2 == 0 ? 2 : 1; }

// Cuts rows into about `wanted` chunks of about equal numbers of entries, each of whole panels.
std::vector<Chunk> CutRows(const AerogelMatrix& m, int64_t wanted, int panel_rows) {
  constexpr int64_t kMaxRows = 65532;  // of a chunk: what PackedMatrix::rows can number, in whole panels
  constexpr int64_t kRowCost = 4;      // a row costs as much as a few entries
  const auto cost = [&](int64_t row) {
    const int64_t blocks = m.indptr[row / m.block_rows + 1] - m.indptr[row / m.block_rows];
    return blocks * m.block_cols + kRowCost;
  };
  int64_t cost_left = 0;
  for (int64_t row = 0; row < m.out_features; ++row) cost_left += cost(row);
  std::vector<Chunk> chunks;
  for (int64_t row = 0; row < m.out_features;) {
    const int64_t chunks_left = std::max<int64_t>(wanted - static_cast<int64_t>(chunks.size()), 1);
    const int64_t target = (cost_left + chunks_left - 1) / chunks_left;
    Chunk chunk{row, 0, 0, 0};
    int64_t taken = 0;
    while (row < m.out_features && chunk.rows < kMaxRows && (taken < target || chunk.rows % panel_rows)) {
      taken += cost(row++), ++chunk.rows;
    }
    cost_left -= taken;
    chunks.push_back(chunk);
  }
  return chunks;
}

// Builds a PackedMatrix chunk by chunk, and within a chunk tile by tile.
class Packer {
 public:
  Packer(const AerogelMatrix& matrix, const Tiling& tiling, const std::vector<bool>* keep)
      : m_(matrix), keep_(keep), features_(ColumnFeatures(DTypeOf(matrix))), value_bytes_(ValueBytes(DTypeOf(matrix))) {
    p_.out_features = m_.out_features;
    p_.in_features = m_.in_features;
    p_.dtype = DTypeOf(m_);
    p_.panel_rows = PanelRows(m_);
    // Tiles of about equal width; a last one of a few columns would cost as much as the others for every row.
    const int64_t columns = (m_.in_features + features_ - 1) / features_;
    const int64_t min_tiles = (columns + kMaxTileCols - 1) / kMaxTileCols;
    p_.tiles = std::max((columns + tiling.tile_cols / 2) / tiling.tile_cols, min_tiles);
    p_.tile_cols = (columns + p_.tiles - 1) / p_.tiles;
    p_.in_place = CanReadInPlace(tiling);
    // The table of segments has no more of them than the matrix has entries and rows, or one chunk has tiles.
    const int64_t affordable = std::max<int64_t>((m_.entries + m_.out_features) / p_.tiles, 1);
    p_.chunks = CutRows(m_, std::min(tiling.chunks, affordable), p_.panel_rows);
    entry_bytes_ = static_cast<size_t>(p_.panel_rows * value_bytes_);
  }

  PackedMatrix Pack() {
    for (Chunk& chunk : p_.chunks) AddChunk(&chunk);
    AddSegment();  // the end of the last one
    p_.rows.insert(p_.rows.end(), kSumsAhead, 0);
    p_.value_offsets.insert(p_.value_offsets.end(), kValuesAhead, 0);
    p_.groups.shrink_to_fit(), p_.rows.shrink_to_fit(), p_.value_offsets.shrink_to_fit(), p_.columns.shrink_to_fit();
    p_.own_values.shrink_to_fit();
    p_.values = p_.in_place ? m_.data : p_.own_values.data();
    if (p_.dtype == DType::kInt8) AddRowSums();
    return std::move(p_);
  }

 private:
  // The entries of panel_rows rows in all tiles.
  struct Panel {
    std::vector<int32_t> columns;  // ascending
    std::vector<char> values;      // [columns][panel_rows] of ValueBytes; empty where values are read in place
    int64_t file_offset = 0;       // of the first value in the file's array, in entries; in place only
  };

  // The entries [begin, end) of a panel, which lie in one tile.
  struct Run {
    int64_t tile;
    size_t panel;
    size_t begin, end;
  };

  bool CanReadInPlace(const Tiling& tiling) const {
    // Kernels read values in units of ValueBytes, four eight-bit ones as one integer.
    const bool aligned = reinterpret_cast<uintptr_t>(m_.data) % static_cast<uintptr_t>(value_bytes_) == 0;
    const int64_t bytes = m_.entries * m_.block_rows * m_.block_cols * value_bytes_ / features_;
    return aligned && m_.block_rows == p_.panel_rows && m_.block_cols == features_ &&
           bytes / std::max<int64_t>(tiling.chunks, 1) <= kMaxInPlaceBytes;
  }

  // Cuts the panels of a chunk into runs and adds these tile by tile. The work follows the entries: a matrix may have
  // many tiles with nothing in them. empty_rows gets the rows without an entry in the first tile.
  void AddChunk(Chunk* chunk) {
    panels_.resize(static_cast<size_t>(chunk->rows / p_.panel_rows));
    runs_.clear();
    chunk->first_empty = p_.empty_rows.size();
    for (size_t i = 0; i < panels_.size(); ++i) {
      const int64_t row = chunk->row + static_cast<int64_t>(i) * p_.panel_rows;
      if (Kept(row)) {
        Collect(row, &panels_[i]);
      } else {
        panels_[i] = Panel();
      }
      const std::vector<int32_t>& columns = panels_[i].columns;
      if (columns.empty() || columns[0] >= p_.tile_cols) {
        for (int h = 0; h < p_.panel_rows; ++h) p_.empty_rows.push_back(static_cast<uint16_t>(FirstRow(i) + h));
      }
      for (size_t begin = 0, end = 0; begin < columns.size(); begin = end) {
        const int64_t tile = columns[begin] / p_.tile_cols;
        while (end < columns.size() && columns[end] < (tile + 1) * p_.tile_cols) ++end;
        runs_.push_back({tile, i, begin, end});
      }
    }
    chunk->empty_count = p_.empty_rows.size() - chunk->first_empty;
    std::stable_sort(runs_.begin(), runs_.end(), [](const Run& a, const Run& b) {
      return a.tile != b.tile ? a.tile < b.tile : a.end - a.begin > b.end - b.begin;
    });
    auto next = runs_.cbegin();
    for (int64_t tile = 0; tile < p_.tiles; ++tile) next = AddTile(tile, next);
  }

  // Adds the current chunk's runs of a tile, which begin at `next`, longest first; returns where those of the next
  // begin.
  std::vector<Run>::const_iterator AddTile(int64_t tile, std::vector<Run>::const_iterator next) {
    AddSegment();
    const size_t first_group = p_.groups.size();
    for (; next != runs_.cend() && next->tile == tile; ++next) {
      const auto count = static_cast<uint16_t>(next->end - next->begin);
      if (p_.groups.size() == first_group || p_.groups.back().count != count) p_.groups.push_back({count, 0});
      ++p_.groups.back().panels;
      AddRun(*next, tile * p_.tile_cols);
    }
    return next;
  }

  void AddRun(const Run& run, int64_t first_column) {
    const Panel& panel = panels_[run.panel];
    p_.rows.push_back(static_cast<uint16_t>(FirstRow(run.panel)));
    p_.value_offsets.push_back(p_.in_place ? static_cast<uint32_t>(panel.file_offset + static_cast<int64_t>(run.begin))
                                           : static_cast<uint32_t>(p_.own_values.size() / entry_bytes_));
    for (size_t i = run.begin; i < run.end; ++i) {
      p_.columns.push_back(static_cast<uint8_t>(panel.columns[i] - first_column));
    }
    if (!p_.in_place) {
      p_.own_values.insert(p_.own_values.end(), panel.values.begin() + static_cast<int64_t>(run.begin * entry_bytes_),
                           panel.values.begin() + static_cast<int64_t>(run.end * entry_bytes_));
    }
  }

  void AddSegment() { p_.segments.push_back({p_.groups.size(), p_.rows.size(), p_.columns.size()}); }

  // The sums of the integers of each row.
  void AddRowSums() {
    const auto* data = static_cast<const int8_t*>(m_.data);
    p_.row_sums.assign(static_cast<size_t>(m_.out_features), 0);
    for (int64_t row = 0; row < m_.out_features; ++row) {
      int32_t& sum = p_.row_sums[static_cast<size_t>(row)];
      for (int64_t i = m_.indptr[row / m_.block_rows]; i < m_.indptr[row / m_.block_rows + 1]; ++i) {
        const int8_t* block = data + (i * m_.block_rows + row % m_.block_rows) * m_.block_cols;
        for (int64_t c = 0; c < m_.block_cols; ++c) sum += block[c];
      }
    }
  }

  // Reads the panel whose first row is `row`.
  void Collect(int64_t row, Panel* panel) const {
    panel->columns.clear();
    panel->values.clear();
    const int64_t begin = m_.indptr[row / m_.block_rows], end = m_.indptr[row / m_.block_rows + 1];
    if (p_.in_place) {
      panel->file_offset = begin;
      for (int64_t i = begin; i < end; ++i) panel->columns.push_back(static_cast<int32_t>(IndexAt(m_, i)));
      return;
    }
    const int64_t feature_bytes = value_bytes_ / features_;  // of one weight
    const auto* data = static_cast<const char*>(m_.data);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t c = 0; c < m_.block_cols; ++c) {
        const int64_t feature = IndexAt(m_, i) * m_.block_cols + c;
        const auto column = static_cast<int32_t>(feature / features_);
        if (panel->columns.empty() || panel->columns.back() != column) {
          panel->columns.push_back(column);
          panel->values.resize(panel->values.size() + entry_bytes_, 0);
        }
        char* value = panel->values.data() + panel->values.size() - entry_bytes_ + feature % features_ * feature_bytes;
        for (int h = 0; h < p_.panel_rows; ++h) {
          const int64_t from = (i * m_.block_rows + row % m_.block_rows + h) * m_.block_cols + c;
          std::memcpy(value + h * value_bytes_, data + from * feature_bytes, static_cast<size_t>(feature_bytes));
        }
      }
    }
  }

  // Whether the results of any row of the panel that begins at `row` are used.
  bool Kept(int64_t row) const {
    bool kept = !keep_;
    for (int h = 0; h < p_.panel_rows && !kept; ++h) kept = (*keep_)[static_cast<size_t>(row + h)];
    return kept;
  }

  // The first row of a panel, counted from its chunk's.
  int64_t FirstRow(size_t panel) const { return static_cast<int64_t>(panel) * p_.panel_rows; }

  const AerogelMatrix& m_;
  const std::vector<bool>* const keep_;
  const int64_t features_;     // of a column
  const int64_t value_bytes_;  // of a row's value in a column
  size_t entry_bytes_ = 0;     // of all panel_rows values
  PackedMatrix p_;
  std::vector<Panel> panels_;  // of the current chunk
  std::vector<Run> runs_;      // of the current chunk, by tile
};

}  // namespace

Status ValidateSizes(int64_t out_features, int64_t in_features) {
  for (const int64_t size : {out_features, in_features}) {
    if (size < 1 || size > kMaxSize) {
      return {MatrixPart::kSizes, "dimension " + std::to_string(size) + " is not in [1, 2147483647]"};
    }
  }
  // Bounds the table of chunks and tiles, which a tiny file without entries could otherwise make fill the memory.
  if (out_features > (int64_t{1} << 36) / in_features) {
    return {MatrixPart::kSizes, "a matrix of " + Size(out_features, in_features) + " has more than 2^36 elements"};
  }
  return {};
}

Status Validate(const AerogelMatrix& m) {
  if (m.dtype < AEROGEL_FLOAT32 || m.dtype > AEROGEL_INT8) {
    return {MatrixPart::kData, "has values of the unknown kind " + std::to_string(m.dtype)};
  }
  if (Status status = ValidateSizes(m.out_features, m.in_features); !status.ok()) return status;
  if (m.in_features > kMaxColumns) {
    return {MatrixPart::kSizes, std::to_string(m.in_features) + " columns are more than the " +
                                    std::to_string(kMaxColumns) + " that a sparse matrix may have"};
  }
  const std::string blocks = "blocks of " + Size(m.block_rows, m.block_cols);
  for (const int64_t size : {m.block_rows, m.block_cols}) {
    if (size < 1 || size > kMaxSize) {
      return {MatrixPart::kData,
              "has " + blocks + ", and dimension " + std::to_string(size) + " is not in [1, 2147483647]"};
    }
  }
  if (m.entries < 0 || m.entries > kMaxSize / m.block_rows / m.block_cols) {
    return {MatrixPart::kData,
            "has " + std::to_string(m.entries) + " " + blocks + ", which are more than 2147483647 values"};
  }
  if (m.out_features % m.block_rows != 0 || m.in_features % m.block_cols != 0) {
    return {MatrixPart::kData,
            "has " + blocks + ", which do not divide a matrix of " + Size(m.out_features, m.in_features)};
  }
  const int64_t rows = m.out_features / m.block_rows;
  const int64_t cols = m.in_features / m.block_cols;
  if (m.indptr[0] != 0 || m.indptr[rows] != m.entries) {
    return {MatrixPart::kIndptr, "must run from 0 to " + std::to_string(m.entries) + ", not from " +
                                     std::to_string(m.indptr[0]) + " to " + std::to_string(m.indptr[rows])};
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = m.indptr[row];
    const int64_t end = m.indptr[row + 1];
    // `end` is bounded here, before it is used, because a later fall to m.entries would not undo a wild read.
    if (end < begin || end > m.entries) {
      return {MatrixPart::kIndptr, "falls or overruns after row " + std::to_string(row)};
    }
    int64_t last = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = IndexAt(m, i);
      if (column < 0 || column >= cols) {
        return {MatrixPart::kIndices, "have " + std::to_string(column) + " at position " + std::to_string(i) +
                                          ", which is outside [0, " + std::to_string(cols) + ")"};
      }
      if (column <= last) return {MatrixPart::kIndices, "do not ascend at position " + std::to_string(i)};
      last = column;
    }
  }
  if (m.dtype == AEROGEL_INT8) {
    if (m.in_features > kMaxInt8Features) {
      return {MatrixPart::kSizes, std::to_string(m.in_features) + " columns of eight-bit weights; sums of more than " +
                                      std::to_string(kMaxInt8Features) + " products could exceed 32 bits"};
    }
    const auto* data = static_cast<const int8_t*>(m.data);
    const int64_t count = m.entries * m.block_rows * m.block_cols;
    // Kernels without a dot product of signed bytes negate weights.
    const int8_t* found = std::find(data, data + count, int8_t{-128});
    if (found != data + count) {
      return {MatrixPart::kData, "has -128 at position " + std::to_string(found - data) + "; give -127 to 127"};
    }
  }
  return {};
}

PackedMatrix Pack(const AerogelMatrix& matrix, const Tiling& tiling, const std::vector<bool>* keep) {
  return Packer(matrix, tiling, keep).Pack();
}

AerogelMatrixStats StatsOf(const PackedMatrix& p, int64_t stored) {
  const auto size = [](const auto& vector) { return static_cast<int64_t>(vector.size()); };
  const int64_t features = ColumnFeatures(p.dtype);
  AerogelMatrixStats stats{};
  stats.panel_rows = p.panel_rows;
  stats.column_features = features;
  stats.chunks = size(p.chunks);
  stats.tiles = p.tiles;
  stats.groups = size(p.groups);
  stats.panels = size(p.rows) - kSumsAhead;
  stats.slots = size(p.columns);
  stats.all_slots = p.out_features / p.panel_rows * ((p.in_features + features - 1) / features);
  stats.padding = stats.slots * p.panel_rows * features - stored;
  stats.bytes = stats.slots * (p.panel_rows * ValueBytes(p.dtype) + 1) +
                stats.panels * static_cast<int64_t>(sizeof(uint32_t) + sizeof(uint16_t)) +
                stats.groups * static_cast<int64_t>(sizeof(Group));
  return stats;
}

}  // namespace aerogel
