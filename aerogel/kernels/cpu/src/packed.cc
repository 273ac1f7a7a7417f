#include "packed.h"

#include <algorithm>
#include <limits>

namespace aerogel {
namespace {

int64_t IndexAt(const SparseView& m, int64_t i) {
  return m.wide_indices ? static_cast<const int32_t*>(m.indices)[i] : static_cast<const uint16_t*>(m.indices)[i];
}

// Longest rows whose values are read in place; see packed.h.
constexpr int64_t kInPlaceColumns = 1024;

// Calls visit(column, value) for every stored entry of a row, by ascending columns. The entries below it in the same
// block follow at multiples of block_cols.
template <typename Visit>
void ForEachEntry(const SparseView& m, int64_t row, const Visit& visit) {
  for (int64_t i = m.indptr[row / m.block_rows]; i < m.indptr[row / m.block_rows + 1]; ++i) {
    const float* block = m.data + (i * m.block_rows + row % m.block_rows) * m.block_cols;
    for (int64_t c = 0; c < m.block_cols; ++c) visit(IndexAt(m, i) * m.block_cols + c, block + c);
  }
}

// Height 1: entries in the order chunk, tile, panel by falling length.
void PackRows(const SparseView& m, PackedMatrix* p) {
  struct Entry {
    int64_t column;
    const float* value;
  };
  struct Run {  // one row's entries within the tile
    uint16_t row;
    size_t begin, end;
  };
  const auto entries = static_cast<size_t>(m.entries * m.block_rows * m.block_cols);
  p->own_near_columns.reserve(entries);
  const bool in_place = m.block_rows * m.block_cols == 1 && m.in_features <= kInPlaceColumns;
  if (!in_place) p->own_values.reserve(entries);
  std::vector<Entry> chunk_entries;
  std::vector<size_t> next, ends;  // per row of the chunk: its first entry that no tile has taken yet, and its end
  std::vector<Run> runs;
  for (int64_t chunk = 0; chunk < p->chunks; ++chunk) {
    const int64_t row0 = chunk * p->tiling.chunk_rows;
    const int64_t rows = std::min(p->tiling.chunk_rows, m.out_features - row0);
    chunk_entries.clear();
    next.clear();
    ends.clear();
    for (int64_t row = row0; row < row0 + rows; ++row) {
      next.push_back(chunk_entries.size());
      ForEachEntry(m, row, [&](int64_t column, const float* value) { chunk_entries.push_back({column, value}); });
      ends.push_back(chunk_entries.size());
    }
    for (int64_t tile = 0; tile < p->tiles; ++tile) {
      const int64_t first_column = tile * p->tiling.tile_cols;
      p->segments.push_back({p->panels.size(), p->own_near_columns.size()});
      runs.clear();
      for (size_t i = 0; i < next.size(); ++i) {
        const size_t begin = next[i];
        while (next[i] < ends[i] && chunk_entries[next[i]].column < first_column + p->tiling.tile_cols) ++next[i];
        if (next[i] > begin) runs.push_back({static_cast<uint16_t>(i), begin, next[i]});
      }
      std::stable_sort(runs.begin(), runs.end(),
                       [](const Run& a, const Run& b) { return a.end - a.begin > b.end - b.begin; });
      for (const Run& run : runs) {
        const size_t first =
            in_place ? static_cast<size_t>(chunk_entries[run.begin].value - m.data) : p->own_values.size();
        p->panels.push_back({static_cast<uint32_t>(first), run.row, static_cast<uint16_t>(run.end - run.begin)});
        for (size_t i = run.begin; i < run.end; ++i) {
          p->own_near_columns.push_back(static_cast<uint8_t>(chunk_entries[i].column - first_column));
          if (!in_place) p->own_values.push_back(*chunk_entries[i].value);
        }
      }
    }
  }
  p->segments.push_back({p->panels.size(), p->own_near_columns.size()});
  p->near_columns = p->own_near_columns.data();
  p->values = in_place ? m.data : p->own_values.data();
  p->rows_in_place = in_place;
}

// Height 2 and 4: one panel a row of blocks, in the order of the file.
void PackBlocks(const SparseView& m, PackedMatrix* p) {
  const bool adopt_values = m.block_rows == p->height && m.block_cols == 1;
  const bool adopt_columns = adopt_values && !m.wide_indices;
  size_t entries = 0;
  for (int64_t row = 0; row < m.out_features; row += p->height) {
    if (row % p->tiling.chunk_rows == 0) p->segments.push_back({p->panels.size(), entries});
    const size_t first = entries;
    ForEachEntry(m, row, [&](int64_t column, const float* value) {
      ++entries;
      if (!adopt_columns) p->own_columns.push_back(static_cast<uint16_t>(column));
      for (int r = 0; r < p->height && !adopt_values; ++r) p->own_values.push_back(value[r * m.block_cols]);
    });
    if (entries > first) {
      p->panels.push_back({static_cast<uint32_t>(first), static_cast<uint16_t>(row % p->tiling.chunk_rows),
                           static_cast<uint16_t>(entries - first)});
    }
  }
  p->segments.push_back({p->panels.size(), entries});
  p->own_columns.shrink_to_fit();
  p->own_values.shrink_to_fit();
  p->columns = adopt_columns ? static_cast<const uint16_t*>(m.indices) : p->own_columns.data();
  p->values = adopt_values ? m.data : p->own_values.data();
}

}  // namespace

std::string Validate(const SparseView& m) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  for (const int64_t size : {m.out_features, m.in_features, m.block_rows, m.block_cols}) {
    if (size < 1 || size > kLargest) return "dimension " + std::to_string(size) + " is not in [1, 2147483647]";
  }
  // Bounds the table of chunks and tiles, which a tiny file without entries could otherwise make fill the memory.
  if (m.out_features > (int64_t{1} << 36) / m.in_features) {
    return "a matrix of " + std::to_string(m.out_features) + "x" + std::to_string(m.in_features) +
           " has more than 2^36 places";
  }
  if (m.entries < 0 || m.entries > kLargest / m.block_rows / m.block_cols) {
    return std::to_string(m.entries) + " blocks of " + std::to_string(m.block_rows) + "x" +
           std::to_string(m.block_cols) + " are more than 2147483647 values";
  }
  if (m.out_features % m.block_rows != 0 || m.in_features % m.block_cols != 0) {
    return "blocks of " + std::to_string(m.block_rows) + "x" + std::to_string(m.block_cols) +
           " do not divide a matrix of " + std::to_string(m.out_features) + "x" + std::to_string(m.in_features);
  }
  const int64_t rows = m.out_features / m.block_rows;
  const int64_t cols = m.in_features / m.block_cols;
  if (m.indptr[0] != 0 || m.indptr[rows] != m.entries) {
    return "indptr must run from 0 to " + std::to_string(m.entries) + ", not from " + std::to_string(m.indptr[0]) +
           " to " + std::to_string(m.indptr[rows]);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = m.indptr[row];
    const int64_t end = m.indptr[row + 1];
    // `end` is bounded here, before it is used, because a later fall to m.entries would not undo a wild read.
    if (end < begin || end > m.entries) return "indptr falls or overruns after row " + std::to_string(row);
    int64_t last = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = IndexAt(m, i);
      if (column < 0 || column >= cols) {
        return "index " + std::to_string(column) + " at position " + std::to_string(i) + " is outside [0, " +
               std::to_string(cols) + ")";
      }
      if (column <= last) return "indices do not ascend at position " + std::to_string(i);
      last = column;
    }
  }
  return {};
}

int PanelHeight(const SparseView& m) {
  if (m.in_features > 65535) return 1;  // what Panel::count and 16-bit columns can hold
  return m.block_rows % 4 == 0 ? 4 : m.block_rows % 2 == 0 ? 2 : 1;
}

PackedMatrix Pack(const SparseView& m, const Tiling& tiling) {
  PackedMatrix p;
  p.out_features = m.out_features;
  p.in_features = m.in_features;
  p.height = PanelHeight(m);
  p.tiling = tiling;
  // A chunk holds whole panels.
  p.tiling.chunk_rows = std::max<int64_t>(tiling.chunk_rows / p.height, 1) * p.height;
  p.chunks = (m.out_features + p.tiling.chunk_rows - 1) / p.tiling.chunk_rows;
  p.tiles = p.height == 1 ? (m.in_features + p.tiling.tile_cols - 1) / p.tiling.tile_cols : 1;
  p.segments.reserve(static_cast<size_t>(p.chunks * p.tiles) + 1);
  (p.height == 1 ? PackRows : PackBlocks)(m, &p);
  p.panels.shrink_to_fit();
  return p;
}

}  // namespace aerogel
