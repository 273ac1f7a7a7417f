// Matrices of every type that the library supports, and their products in float64.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "c_api.h"
#include "check.h"

namespace check {

enum class Kind { kDense, kFloat32, kFloat16, kInt8 };
constexpr Kind kKinds[] = {Kind::kDense, Kind::kFloat32, Kind::kFloat16, Kind::kInt8};
constexpr Kind kSparseKinds[] = {Kind::kFloat32, Kind::kFloat16, Kind::kInt8};
const char* Name(Kind kind);

using Linear = std::unique_ptr<AerogelLinear, decltype(&aerogel_linear_destroy)>;

// A matrix as in a file. Buffers on the heap have exactly the promised size, so that the address sanitizer
// guards their ends.
struct Matrix {
  Kind kind = Kind::kFloat32;
  int64_t out = 0, in = 0, r = 1, c = 1;
  bool wide = false;
  std::vector<float> values;     // [entries, r, c]; int8 values as integers. Dense: [in, out]
  std::vector<uint16_t> halves;  // the stored fp16 values
  std::vector<int8_t> bytes;
  std::vector<int32_t> indices, indptr;  // empty if dense
  std::vector<float> scale, bias;
  int64_t entries = -1;  // claimed number; -1: the number of indices
  mutable std::vector<uint16_t> narrow;

  // The result points into this object.
  AerogelMatrix View() const;
  // Null, with a reason, if the library rejects it. The result points into this object.
  Linear Create(const char* isa, std::string* error) const;
  std::string Describe() const;
  // Adds a block of random values at the end.
  void Append(Random& random, int32_t index);
  // Row `row` ends here.
  void EndRow() { indptr.push_back(static_cast<int32_t>(indices.size())); }
  // Stores the changed `values`, which the type must be able to represent.
  void Store();
  // The weight at (row, column); int8 weights are not scaled.
  double At(int64_t row, int64_t column) const;
};

// An empty matrix with random bias and scales, for appending block rows.
Matrix Start(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c);

// Keeps random blocks. With `gaps`, every third block row and every fifth block column is empty, as for pruned
// neurons.
Matrix Make(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c, double density, bool gaps);

// Block row i has `lengths[i]` blocks in random columns, sorted.
Matrix MakeRows(Random& random, Kind kind, const std::vector<int64_t>& lengths, int64_t in, int64_t r, int64_t c);

// Whether the arrays of a matrix with valid sizes are well formed.
bool Valid(const Matrix& m);

// A value of IEEE half precision, NaN and infinity included.
double HalfValue(uint16_t bits);

// Quantizes a token as in docs/kernels.md, in float32, half to even. Returns m / 127 in float64.
double Quantize(const float* x, int64_t count, std::vector<int32_t>* q);

struct Product {
  std::vector<double> y;      // [tokens, out]
  std::vector<double> bound;  // tolerance of float32
};

// y[t, n] = bias[n] + sum_k W[n, k] x[t, k]. With int8 weights, x is quantized like in the kernels.
//
// The bound for float weights is 16 epsilon of the sum of magnitudes: the error of n terms is at most n/2 epsilon, and
// far less in practice. int8 sums are exact; a conversion, the scales and an addition follow: 4 epsilon.
Product Multiply(const Matrix& m, const std::vector<float>& x, int64_t tokens);

// Random tokens. With int8 weights the first few are hard to quantize: halves, zeros,
// numbers too small to scale, large numbers, a single spike.
std::vector<float> Activations(Random& random, const Matrix& m, int64_t tokens);

// Reports the first number whose error exceeds its bound.
void Compare(const std::string& what, const std::vector<float>& y, const Product& expected);

}  // namespace check
