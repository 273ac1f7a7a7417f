// A sparse linear layer, ready to run: the object behind both the ONNX Runtime operators and the C interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "packed.h"

namespace aerogel {

// Runs body(argument, i) for every i in [0, count), on whatever threads the caller has.
class Parallel {
 public:
  using Body = void (*)(void* argument, size_t i);
  virtual ~Parallel() = default;
  virtual void For(size_t count, Body body, void* argument) const = 0;
};

class SparseLinear {
 public:
  // `matrix.data` and `matrix.indices` must outlive the result, which may point into them; indptr and bias
  // ([out_features]) are copied. On failure returns null and says why in `error`.
  static std::unique_ptr<SparseLinear> Create(const SparseView& matrix, const float* bias, const KernelTable& kernels,
                                              std::string* error);

  // y[t, n] = bias[n] + sum_k W[n, k] x[t, k]; x [tokens, in_features], y [tokens, out_features], both dense rows.
  // Results do not depend on the number of threads, nor on which other tokens share the call.
  // Throws std::bad_alloc, only from the calling thread. May be called by several threads at once.
  void Run(const float* x, int64_t tokens, float* y, const Parallel& parallel) const;

  int64_t in_features() const { return matrix_.in_features; }
  int64_t out_features() const { return matrix_.out_features; }

 private:
  SparseLinear(PackedMatrix matrix, const float* bias, const KernelTable& kernels);

  PackedMatrix matrix_;  // moved in, never copied: it may point into its own vectors
  std::vector<float> bias_;
  const KernelTable* kernels_;
};

}  // namespace aerogel
