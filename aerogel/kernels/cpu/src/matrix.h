// A weight matrix with its bias, ready to be multiplied with tiles of activations.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "c_api.h"
#include "kernels.h"
#include "packed.h"

namespace aerogel {

// One tile of activations: for float weights `x` [in_features][stride], for eight-bit ones `q`
// [ceil(in_features / 4)][stride][4] and `scale` [stride], one per token. stride = vectors * KernelTable::width.
struct Activations {
  const float* x;
  const uint8_t* q;
  const float* scale;
  int vectors;
};

// Vectors of a tile of `tokens` tokens: 1, 2 or 4.
inline int VectorsFor(int64_t tokens, int width) { return tokens <= width ? 1 : tokens <= 2 * width ? 2 : 4; }

// Checks a sparse matrix and packs it as suits this machine and instruction set. source.data must outlive `packed` and
// may have any address; scale and bias are not read. keep: see Pack.
Status PackFor(const KernelTable& kernels, const AerogelMatrix& source, const std::vector<bool>* keep,
               PackedMatrix* packed);

class Matrix {
 public:
  // source.data must outlive the result and may lie at any address; the rest is copied. keep: see Pack. On failure
  // returns null and says why in `status`.
  static std::unique_ptr<Matrix> Create(const AerogelMatrix& source, const KernelTable& kernels, Status* status,
                                        const std::vector<bool>* keep = nullptr);

  // y[n, t] = bias[n] + sum_k W[n, k] x[k, t] (+ residual[n, t], which may be null) for the rows n of one chunk;
  // y and residual point to the chunk's first row, [rows][stride].
  void Run(int64_t chunk, const Activations& activations, const float* residual, float* y) const;

  // Of the groups of `width` consecutive columns, the numbers of those that influence y or its rounding.
  std::vector<int64_t> ReadColumns(int64_t width) const;
  // [in_features], whether a column influences y or its rounding; null if all do.
  const std::vector<bool>* read() const { return read_.empty() ? nullptr : &read_; }

  int64_t chunks() const { return static_cast<int64_t>(packed_.chunks.size()); }
  const Chunk& chunk(int64_t i) const { return packed_.chunks[static_cast<size_t>(i)]; }
  int64_t in_features() const { return packed_.in_features; }
  int64_t out_features() const { return packed_.out_features; }
  bool quantized() const { return packed_.dtype == DType::kInt8; }
  const KernelTable& kernels() const { return *kernels_; }

 private:
  Matrix() = default;
  Status SetSparse(const AerogelMatrix& source, const std::vector<bool>* keep);
  Status SetDense(const AerogelMatrix& source);

  PackedMatrix packed_;     // of a dense matrix: sizes and chunks only
  std::vector<bool> read_;  // [in_features]; empty if all are
  const float* dense_ = nullptr;
  std::vector<float> own_dense_;  // empty where `dense_` is the file's array
  std::vector<float> bias_, scale_;
  std::vector<int32_t>
      bias_init_;  // of eight-bit sums: minus the products of the weights with the offset of activations
  const KernelTable* kernels_ = nullptr;
};

// Scales and rounds a tile of activations to eight bits: m[t] = max(max_k |x[k, t]|, 1e-20), q = round(x 127 / m),
// scale = m / 127. `q` has room for ceil(features / 4) * stride * 4 bytes.
void QuantizeTile(const KernelTable& kernels, const float* x, int64_t features, int vectors, uint8_t* q, float* scale);

}  // namespace aerogel
