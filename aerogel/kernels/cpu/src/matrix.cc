#include "matrix.h"

#include <algorithm>
#include <cstring>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include "cores.h"

namespace aerogel {
namespace {

int64_t FirstLevelCacheBytes() {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const long size = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  if (size >= 8192 && size <= (1 << 20)) return size;
#endif
  return 32768;
}

Tiling ChooseTiling(int64_t out_features, const KernelTable& kernels) {
  const int64_t tile = int64_t{kTileVectors} * kernels.width;
  const int64_t bytes_per_column = tile * 4;
  Tiling tiling{};
  // Five sixths of the first-level cache for activations, the rest for sums and the weights passing through.
  tiling.tile_cols = std::clamp<int64_t>(FirstLevelCacheBytes() * 5 / 6 / bytes_per_column / 16 * 16, 16, 256);
  // A chunk for every core, but not more than 8: each chunk loads all activations again, and the more rows it has the
  // more of them have the same length. 6% between one chunk of 768 rows and four.
  static const int64_t cores = Cores();
  tiling.chunks = std::clamp<int64_t>(std::min<int64_t>(cores, 8), 1, std::max<int64_t>(out_features / 128, 1));
  return tiling;
}

}  // namespace

Status PackFor(const KernelTable& kernels, const AerogelMatrix& source, const std::vector<bool>* keep,
               PackedMatrix* packed) {
  if (Status status = Validate(source); !status.ok()) return status;
  *packed = Pack(source, ChooseTiling(source.out_features, kernels), keep);
  return {};
}

std::unique_ptr<Matrix> Matrix::Create(const AerogelMatrix& source, const KernelTable& kernels, Status* status,
                                       const std::vector<bool>* keep) {
  std::unique_ptr<Matrix> matrix(new Matrix);
  matrix->kernels_ = &kernels;
  *status = source.indptr ? matrix->SetSparse(source, keep) : matrix->SetDense(source);
  if (!status->ok()) return nullptr;
  matrix->bias_.assign(source.bias, source.bias + source.out_features);
  return matrix;
}

Status Matrix::SetSparse(const AerogelMatrix& source, const std::vector<bool>* keep) {
  if (Status status = PackFor(*kernels_, source, keep, &packed_); !status.ok()) return status;
  if (quantized()) {
    scale_.assign(source.scale, source.scale + source.out_features);
    bias_init_ = std::move(packed_.row_sums);
    const int32_t offset = kernels_->unsigned_activations ? -128 : 0;
    for (int32_t& sum : bias_init_) sum *= offset;
    return {};  // every activation influences how its token is rounded
  }
  read_.assign(static_cast<size_t>(source.in_features), false);
  for (int64_t i = 0; i < source.entries; ++i) {
    const int64_t column = IndexAt(source, i) * source.block_cols;
    for (int64_t c = 0; c < source.block_cols; ++c) read_[static_cast<size_t>(column + c)] = true;
  }
  return {};
}

Status Matrix::SetDense(const AerogelMatrix& source) {
  if (Status status = ValidateSizes(source.out_features, source.in_features); !status.ok()) return status;
  packed_.in_features = source.in_features;
  packed_.out_features = source.out_features;
  const Tiling tiling = ChooseTiling(source.out_features, *kernels_);
  const int64_t chunk_rows = (source.out_features / tiling.chunks + 3) / 4 * 4;
  for (int64_t row = 0; row < source.out_features; row += chunk_rows) {
    packed_.chunks.push_back({row, std::min(chunk_rows, source.out_features - row), 0, 0});
  }
  dense_ = static_cast<const float*>(source.data);
  if (reinterpret_cast<uintptr_t>(source.data) % alignof(float) != 0) {
    own_dense_.resize(static_cast<size_t>(source.out_features * source.in_features));
    std::memcpy(own_dense_.data(), source.data, own_dense_.size() * sizeof(float));
    dense_ = own_dense_.data();
  }
  return {};
}

std::vector<int64_t> Matrix::ReadColumns(int64_t width) const {
  std::vector<int64_t> found;
  for (int64_t first = 0; first < in_features(); first += width) {
    bool read = read_.empty();
    for (int64_t i = first; i < std::min(first + width, in_features()) && !read; ++i)
      read = read_[static_cast<size_t>(i)];
    if (read) found.push_back(first / width);
  }
  return found;
}

void Matrix::Run(int64_t i, const Activations& activations, const float* residual, float* y) const {
  const PackedMatrix& m = packed_;
  const Chunk& rows = chunk(i);
  const float* const bias = bias_.data() + rows.row;
  if (dense_) {
    kernels_->gemm({dense_ + rows.row, m.in_features, m.out_features, rows.rows, activations.x, activations.vectors,
                    bias, residual, y});
    return;
  }
  SpmmArgs args{};
  args.dtype = m.dtype;
  args.panel_rows = m.panel_rows;
  args.segments = m.segments.data() + i * m.tiles;
  args.groups = m.groups.data();
  args.value_offsets = m.value_offsets.data();
  args.rows = m.rows.data();
  args.columns = m.columns.data();
  args.values = m.values;
  args.tiles = m.tiles;
  args.tile_cols = m.tile_cols;
  args.x = quantized() ? static_cast<const void*>(activations.q) : activations.x;
  args.vectors = activations.vectors;
  args.bias_init = quantized() ? static_cast<const void*>(bias_init_.data() + rows.row) : bias;
  args.residual = quantized() ? nullptr : residual;
  args.empty_rows = m.empty_rows.data() + rows.first_empty;
  args.empty_count = static_cast<int64_t>(rows.empty_count);
  args.sums = y;
  kernels_->spmm(args);
  if (quantized()) {
    kernels_->dequantize(
        {y, rows.rows, activations.vectors, scale_.data() + rows.row, activations.scale, bias, residual});
  }
}

void QuantizeTile(const KernelTable& kernels, const float* x, int64_t features, int vectors, uint8_t* q, float* scale) {
  const int64_t stride = int64_t{vectors} * kernels.width;
  float inverse[kTileVectors * 16];
  kernels.elementwise->absmax(x, features, stride, vectors, scale);
  for (int64_t t = 0; t < stride; ++t) {
    const float max = std::max(scale[t], 1e-20f);
    inverse[t] = 127.0f / max;
    scale[t] = max * (1.0f / 127.0f);
  }
  kernels.elementwise->quantize(x, features, stride, vectors, inverse, kernels.unsigned_activations ? 128 : 0, q);
}

}  // namespace aerogel
