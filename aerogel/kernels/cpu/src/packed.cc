#include "packed.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace aerogel {
namespace {

// What a byte can number.
constexpr int64_t kMostTileCols = 256;

// Values are read out of order where they are not copied, so a chunk's must stay in the second-level cache. At 10%
// density that costs 3072 x 768 a sixth of its speed and 768 x 768 nothing.
constexpr int64_t kInPlaceBytes = 256 << 10;

// 255 x 127 x 65,536 is the largest power of two of them that fits in 31 bits.
constexpr int64_t kMostInt8Features = 65536;
constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
// Columns that a sparse matrix may have. A file of a few bytes may claim any number of them, since their number is an
// attribute, and the table of segments has an entry for every tile of columns.
constexpr int64_t kMostColumns = int64_t{1} << 20;

// The columns of one panel, ascending, and where its values lie.
struct PanelEntries {
  std::vector<int32_t> columns;
  std::vector<char> values;  // [columns, height] of ValueBytes; empty where values are read in place
  int64_t first = 0;         // of the file's values, in units of `height` values; in place only
};

// Collects a panel of `height` rows from `row` on.
void Collect(const SparseView& m, int64_t row, int height, bool in_place, PanelEntries* panel) {
  panel->columns.clear();
  panel->values.clear();
  const int64_t features = ColumnFeatures(m.kind);
  const int64_t begin = m.indptr[row / m.block_rows], end = m.indptr[row / m.block_rows + 1];
  if (in_place) {
    panel->first = begin;
    for (int64_t i = begin; i < end; ++i) panel->columns.push_back(static_cast<int32_t>(IndexAt(m, i)));
    return;
  }
  const int64_t bytes = ValueBytes(m.kind);        // of a row's value in a column
  const int64_t feature_bytes = bytes / features;  // of one weight
  const auto* data = static_cast<const char*>(m.data);
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t c = 0; c < m.block_cols; ++c) {
      const int64_t feature = IndexAt(m, i) * m.block_cols + c;
      const auto column = static_cast<int32_t>(feature / features);
      if (panel->columns.empty() || panel->columns.back() != column) {
        panel->columns.push_back(column);
        panel->values.resize(panel->values.size() + static_cast<size_t>(height * bytes), 0);
      }
      char* value = panel->values.data() + panel->values.size() - height * bytes + feature % features * feature_bytes;
      for (int h = 0; h < height; ++h) {
        const int64_t from = (i * m.block_rows + row % m.block_rows + h) * m.block_cols + c;
        std::memcpy(value + h * bytes, data + from * feature_bytes, static_cast<size_t>(feature_bytes));
      }
    }
  }
}

// Cuts rows into chunks of about equal numbers of entries, each of whole panels.
std::vector<Chunk> CutRows(const SparseView& m, int64_t wanted, int height) {
  constexpr int64_t kMostRows = 65532;  // what PackedMatrix::rows can hold, in whole panels
  // A row costs something too: what a few entries do.
  constexpr int64_t kRowCost = 4;
  const auto cost = [&](int64_t row) {
    const int64_t blocks = m.indptr[row / m.block_rows + 1] - m.indptr[row / m.block_rows];
    return blocks * m.block_cols + kRowCost;
  };
  int64_t left = 0;
  for (int64_t row = 0; row < m.out_features; ++row) left += cost(row);
  std::vector<Chunk> chunks;
  for (int64_t row = 0; row < m.out_features;) {
    const int64_t chunks_left = std::max<int64_t>(wanted - static_cast<int64_t>(chunks.size()), 1);
    const int64_t share = (left + chunks_left - 1) / chunks_left;
    Chunk chunk{row, 0, 0, 0};
    int64_t taken = 0;
    while (row < m.out_features && chunk.rows < kMostRows && (taken < share || chunk.rows % height)) {
      taken += cost(row++), ++chunk.rows;
    }
    left -= taken;
    chunks.push_back(chunk);
  }
  return chunks;
}

std::string Size(int64_t rows, int64_t cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

}  // namespace

const char* Name(Part part) {
  const char* const names[] = {"sizes", "data", "indices", "indptr"};
  return names[static_cast<int>(part)];
}

std::string Tell(const Fault& fault) {
  return fault.part == Part::kSizes ? fault.text : std::string(Name(fault.part)) + " " + fault.text;
}

Fault ValidateSizes(int64_t out_features, int64_t in_features) {
  for (const int64_t size : {out_features, in_features}) {
    if (size < 1 || size > kLargest) {
      return {Part::kSizes, "dimension " + std::to_string(size) + " is not in [1, 2147483647]"};
    }
  }
  // Bounds the table of chunks and tiles, which a tiny file without entries could otherwise make fill the memory.
  if (out_features > (int64_t{1} << 36) / in_features) {
    return {Part::kSizes, "a matrix of " + Size(out_features, in_features) + " has more than 2^36 places"};
  }
  return {};
}

Fault Validate(const SparseView& m) {
  if (Fault fault = ValidateSizes(m.out_features, m.in_features)) return fault;
  if (m.in_features > kMostColumns) {
    return {Part::kSizes, std::to_string(m.in_features) + " columns are more than the " + std::to_string(kMostColumns) +
                              " that a sparse matrix may have"};
  }
  const std::string blocks = "blocks of " + Size(m.block_rows, m.block_cols);
  for (const int64_t size : {m.block_rows, m.block_cols}) {
    if (size < 1 || size > kLargest) {
      return {Part::kData, "has " + blocks + ", and dimension " + std::to_string(size) + " is not in [1, 2147483647]"};
    }
  }
  if (m.entries < 0 || m.entries > kLargest / m.block_rows / m.block_cols) {
    return {Part::kData, "has " + std::to_string(m.entries) + " " + blocks + ", which are more than 2147483647 values"};
  }
  if (m.out_features % m.block_rows != 0 || m.in_features % m.block_cols != 0) {
    return {Part::kData, "has " + blocks + ", which do not divide a matrix of " + Size(m.out_features, m.in_features)};
  }
  const int64_t rows = m.out_features / m.block_rows;
  const int64_t cols = m.in_features / m.block_cols;
  if (m.indptr[0] != 0 || m.indptr[rows] != m.entries) {
    return {Part::kIndptr, "must run from 0 to " + std::to_string(m.entries) + ", not from " +
                               std::to_string(m.indptr[0]) + " to " + std::to_string(m.indptr[rows])};
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = m.indptr[row];
    const int64_t end = m.indptr[row + 1];
    // `end` is bounded here, before it is used, because a later fall to m.entries would not undo a wild read.
    if (end < begin || end > m.entries) {
      return {Part::kIndptr, "falls or overruns after row " + std::to_string(row)};
    }
    int64_t last = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = IndexAt(m, i);
      if (column < 0 || column >= cols) {
        return {Part::kIndices, "have " + std::to_string(column) + " at position " + std::to_string(i) +
                                    ", which is outside [0, " + std::to_string(cols) + ")"};
      }
      if (column <= last) return {Part::kIndices, "do not ascend at position " + std::to_string(i)};
      last = column;
    }
  }
  if (m.kind == Values::kInt8) {
    if (m.in_features > kMostInt8Features) {
      return {Part::kSizes, std::to_string(m.in_features) + " columns of eight-bit weights; sums of more than " +
                                std::to_string(kMostInt8Features) + " products could exceed 32 bits"};
    }
    const auto* data = static_cast<const int8_t*>(m.data);
    const int64_t count = m.entries * m.block_rows * m.block_cols;
    // Kernels without a dot product of signed bytes negate weights.
    const int8_t* found = std::find(data, data + count, int8_t{-128});
    if (found != data + count) {
      return {Part::kData, "has -128 at position " + std::to_string(found - data) + "; give -127 to 127"};
    }
  }
  return {};
}

PackedMatrix Pack(const SparseView& m, const Tiling& tiling, const std::vector<bool>* keep) {
  struct Run {  // one panel's entries within one tile
    int64_t tile;
    uint16_t row;
    uint32_t first;  // in place: of the file's values
    size_t begin, end;
  };
  PackedMatrix p;
  p.out_features = m.out_features;
  p.in_features = m.in_features;
  p.kind = m.kind;
  p.height = m.block_rows % 4 == 0 ? 4 : m.block_rows % 2 == 0 ? 2 : 1;
  // Tiles of about equal width; a last one of a few columns would cost as much as the others for every row.
  const int64_t columns = (m.in_features + ColumnFeatures(m.kind) - 1) / ColumnFeatures(m.kind);
  const int64_t fewest = (columns + kMostTileCols - 1) / kMostTileCols;
  p.tiles = std::max((columns + tiling.tile_cols / 2) / tiling.tile_cols, fewest);
  p.tile_cols = (columns + p.tiles - 1) / p.tiles;
  const int64_t chunk_bytes = m.entries * m.block_rows * m.block_cols * ValueBytes(m.kind) / ColumnFeatures(m.kind) /
                              std::max<int64_t>(tiling.chunks, 1);
  // Kernels read values in units of ValueBytes, also four eight-bit ones as an integer.
  const bool aligned = reinterpret_cast<uintptr_t>(m.data) % static_cast<uintptr_t>(ValueBytes(m.kind)) == 0;
  p.in_place =
      aligned && m.block_rows == p.height && m.block_cols == ColumnFeatures(m.kind) && chunk_bytes <= kInPlaceBytes;
  // The table of segments has no more of them than the matrix has entries and rows, or one chunk has tiles.
  const int64_t affordable = std::max<int64_t>((m.entries + m.out_features) / p.tiles, 1);
  p.chunks = CutRows(m, std::min(tiling.chunks, affordable), p.height);
  const auto value_bytes = static_cast<size_t>(p.height * ValueBytes(m.kind));

  std::vector<PanelEntries> panels;  // of the chunk
  std::vector<Run> runs;
  for (Chunk& chunk : p.chunks) {
    panels.resize(static_cast<size_t>(chunk.rows / p.height));
    runs.clear();
    chunk.first_idle = p.idle_rows.size();
    for (size_t i = 0; i < panels.size(); ++i) {
      const int64_t row = chunk.row + static_cast<int64_t>(i) * p.height;
      bool read = !keep;
      for (int h = 0; h < p.height && !read; ++h) read = (*keep)[static_cast<size_t>(row + h)];
      if (read) {
        Collect(m, row, p.height, p.in_place, &panels[i]);
      } else {
        panels[i] = PanelEntries();
      }
      const std::vector<int32_t>& all = panels[i].columns;
      const auto first_row = static_cast<uint16_t>(i * static_cast<size_t>(p.height));
      if (all.empty() || all[0] >= p.tile_cols) {
        for (int h = 0; h < p.height; ++h) p.idle_rows.push_back(static_cast<uint16_t>(first_row + h));
      }
      for (size_t begin = 0, end = 0; begin < all.size(); begin = end) {
        const int64_t tile = all[begin] / p.tile_cols;
        while (end < all.size() && all[end] < (tile + 1) * p.tile_cols) ++end;
        const auto first = static_cast<uint32_t>(panels[i].first + static_cast<int64_t>(begin));
        runs.push_back({tile, first_row, first, begin, end});
      }
    }
    chunk.idle = p.idle_rows.size() - chunk.first_idle;
    std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
      return a.tile != b.tile ? a.tile < b.tile : a.end - a.begin > b.end - b.begin;
    });
    auto next = runs.begin();
    for (int64_t tile = 0; tile < p.tiles; ++tile) {
      const int64_t first_column = tile * p.tile_cols;
      p.segments.push_back({p.groups.size(), p.rows.size(), p.columns.size()});
      const size_t segment_groups = p.groups.size();
      for (; next != runs.end() && next->tile == tile; ++next) {
        const Run& run = *next;
        const PanelEntries& panel = panels[run.row / static_cast<size_t>(p.height)];
        const auto count = static_cast<uint16_t>(run.end - run.begin);
        if (p.groups.size() == segment_groups || p.groups.back().count != count) p.groups.push_back({count, 0});
        ++p.groups.back().panels;
        p.rows.push_back(run.row);
        p.firsts.push_back(p.in_place ? run.first : static_cast<uint32_t>(p.own_values.size() / value_bytes));
        for (size_t i = run.begin; i < run.end; ++i) {
          p.columns.push_back(static_cast<uint8_t>(panel.columns[i] - first_column));
        }
        if (!p.in_place) {
          p.own_values.insert(p.own_values.end(), panel.values.begin() + static_cast<int64_t>(run.begin * value_bytes),
                              panel.values.begin() + static_cast<int64_t>(run.end * value_bytes));
        }
      }
    }
  }
  p.segments.push_back({p.groups.size(), p.rows.size(), p.columns.size()});
  p.rows.insert(p.rows.end(), kSumsAhead, 0);
  p.firsts.insert(p.firsts.end(), kValuesAhead, 0);
  p.groups.shrink_to_fit(), p.rows.shrink_to_fit(), p.firsts.shrink_to_fit(), p.columns.shrink_to_fit();
  p.own_values.shrink_to_fit();
  p.values = p.in_place ? m.data : p.own_values.data();
  if (m.kind == Values::kInt8) {
    const auto* data = static_cast<const int8_t*>(m.data);
    p.row_sums.assign(static_cast<size_t>(m.out_features), 0);
    for (int64_t row = 0; row < m.out_features; ++row) {
      int32_t& sum = p.row_sums[static_cast<size_t>(row)];
      for (int64_t i = m.indptr[row / m.block_rows]; i < m.indptr[row / m.block_rows + 1]; ++i) {
        const int8_t* block = data + (i * m.block_rows + row % m.block_rows) * m.block_cols;
        for (int64_t c = 0; c < m.block_cols; ++c) sum += block[c];
      }
    }
  }
  return p;
}

}  // namespace aerogel
