// y = x W^T + b for token-major activations, behind the linear operators of ONNX Runtime and the C interface.
#pragma once

#include <cstdint>
#include <memory>

#include "matrix.h"
#include "parallel.h"

namespace aerogel {

class SparseLinear {
 public:
  explicit SparseLinear(std::unique_ptr<Matrix> matrix) : matrix_(std::move(matrix)) {}

  // y[t, n] = bias[n] + sum_k W[n, k] x[t, k]; x [tokens, in_features], y [tokens, out_features], both dense rows.
  // Results do not depend on the number of threads, nor on which other tokens share the call.
  // Throws std::bad_alloc, only from the calling thread. May be called by several threads at once.
  void Run(const float* x, int64_t tokens, float* y, const Parallel& parallel) const;

  int64_t in_features() const { return matrix_->in_features(); }
  int64_t out_features() const { return matrix_->out_features(); }

 private:
  std::unique_ptr<Matrix> matrix_;
};

}  // namespace aerogel
