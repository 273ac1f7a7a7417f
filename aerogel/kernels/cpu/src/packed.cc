#include "packed.h"

#include <algorithm>
#include <numeric>

namespace aerogel {
namespace {

int64_t IndexAt(const SparseView& m, int64_t i) {
  return m.wide_indices ? static_cast<const int32_t*>(m.indices)[i] : static_cast<const uint16_t*>(m.indices)[i];
}

// Entries of one panel within one tile, before they are laid out.
struct Draft {
  uint16_t row;
  std::vector<uint16_t> columns;
  std::vector<float> values;
};

}  // namespace

std::string Validate(const SparseView& m) {
  if (m.out_features < 1 || m.in_features < 1 || m.block_rows < 1 || m.block_cols < 1) {
    return "every dimension must be at least 1";
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

int PanelHeight(int64_t block_rows) { return block_rows % 4 == 0 ? 4 : block_rows % 2 == 0 ? 2 : 1; }

PackedMatrix Pack(const SparseView& m, const Tiling& tiling) {
  PackedMatrix p;
  p.out_features = m.out_features;
  p.in_features = m.in_features;
  p.height = PanelHeight(m.block_rows);
  p.tiling = tiling;
  // A chunk holds whole panels.
  p.tiling.chunk_rows = std::max<int64_t>(tiling.chunk_rows / p.height, 1) * p.height;
  p.chunks = (m.out_features + p.tiling.chunk_rows - 1) / p.tiling.chunk_rows;
  p.tiles = (m.in_features + p.tiling.tile_cols - 1) / p.tiling.tile_cols;
  p.segments.reserve(static_cast<size_t>(p.chunks * p.tiles));
  const int64_t block_size = m.block_rows * m.block_cols;
  p.values.reserve(static_cast<size_t>(m.entries * block_size));
  p.columns.reserve(static_cast<size_t>(m.entries * block_size / p.height));

  const int h = p.height;
  // Next unread (entry, column inside the block) of every panel; tiles are visited in ascending order of columns.
  const int64_t panel_count = p.tiling.chunk_rows / h;
  std::vector<int64_t> entry(static_cast<size_t>(panel_count));
  std::vector<int64_t> inner(static_cast<size_t>(panel_count));
  std::vector<Draft> drafts(static_cast<size_t>(panel_count));
  std::vector<size_t> order(static_cast<size_t>(panel_count));

  for (int64_t chunk = 0; chunk < p.chunks; ++chunk) {
    const int64_t row0 = chunk * p.tiling.chunk_rows;
    const int64_t rows = std::min(p.tiling.chunk_rows, m.out_features - row0);
    const auto here = static_cast<size_t>(rows / h);
    for (size_t i = 0; i < here; ++i) {
      entry[i] = m.indptr[(row0 + static_cast<int64_t>(i) * h) / m.block_rows];
      inner[i] = 0;
    }
    for (int64_t tile = 0; tile < p.tiles; ++tile) {
      const int64_t col0 = tile * p.tiling.tile_cols;
      const int64_t col1 = std::min(col0 + p.tiling.tile_cols, m.in_features);
      for (size_t i = 0; i < here; ++i) {
        Draft& draft = drafts[i];
        const int64_t row = row0 + static_cast<int64_t>(i) * h;
        draft.row = static_cast<uint16_t>(row - row0);
        draft.columns.clear();
        draft.values.clear();
        const int64_t end = m.indptr[row / m.block_rows + 1];
        for (; entry[i] < end; ++entry[i], inner[i] = 0) {
          const int64_t first = IndexAt(m, entry[i]) * m.block_cols;
          const float* block = m.data + entry[i] * block_size + row % m.block_rows * m.block_cols;
          for (; inner[i] < m.block_cols && first + inner[i] < col1; ++inner[i]) {
            draft.columns.push_back(static_cast<uint16_t>(first + inner[i] - col0));
            for (int r = 0; r < h; ++r) draft.values.push_back(block[r * m.block_cols + inner[i]]);
          }
          if (inner[i] < m.block_cols) break;  // the block goes on in the next tile
        }
      }

      std::iota(order.begin(), order.begin() + static_cast<int64_t>(here), size_t{0});
      std::stable_sort(order.begin(), order.begin() + static_cast<int64_t>(here), [&](size_t a, size_t b) {
        return drafts[a].columns.size() > drafts[b].columns.size();
      });
      Segment segment{p.panels.size(), 0, p.columns.size(), p.values.size()};
      for (size_t i = 0; i < here && !drafts[order[i]].columns.empty(); ++i) {
        const Draft& draft = drafts[order[i]];
        p.panels.push_back({draft.row, static_cast<uint16_t>(draft.columns.size())});
        p.columns.insert(p.columns.end(), draft.columns.begin(), draft.columns.end());
        p.values.insert(p.values.end(), draft.values.begin(), draft.values.end());
        ++segment.panels;
      }
      p.segments.push_back(segment);
    }
  }
  return p;
}

}  // namespace aerogel
