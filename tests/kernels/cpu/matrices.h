// Matrices of every kind the library takes, and their products in float64.
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

// A matrix as a file has it. Buffers are exactly as large as promised and lie on the heap, where the address sanitizer
// guards their ends.
struct Matrix {
  Kind kind = Kind::kFloat32;
  int64_t out = 0, in = 0, r = 1, c = 1;
  bool wide = false;
  std::vector<float> values;  // [entries, r, c], as they are multiplied: eight-bit ones as integers. Dense: [in, out]
  std::vector<uint16_t> halves;  // the same as they are stored, where that is something else
  std::vector<int8_t> bytes;
  std::vector<int32_t> indices, indptr;  // empty if dense
  std::vector<float> scale, bias;
  int64_t entries = -1;  // what the call claims; -1: as many as there are indices
  mutable std::vector<uint16_t> narrow;

  // Points into this.
  AerogelMatrix View() const;
  // Null, with a reason, where the library refuses it. Points into this.
  Linear Create(const char* isa, std::string* error) const;
  std::string Describe() const;
  // Adds a block of random values at the end.
  void Append(Random& random, int32_t index);
  // Row `row` ends here.
  void EndRow() { indptr.push_back(static_cast<int32_t>(indices.size())); }
  // Values changed in `values` become those that are stored; they must be such as the kind can hold.
  void Store();
  // The weight at a place; with eight bits before it is scaled.
  double At(int64_t row, int64_t column) const;
};

// An empty matrix with random bias and scales, to append rows of blocks to.
Matrix Start(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c);

// Blocks kept at random. Every third block row and every fifth block column is empty where `gaps` is set, as happens to
// neurons that are pruned away.
Matrix Make(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c, double density, bool gaps);

// Row of blocks i has `lengths[i]` blocks at random places, sorted.
Matrix MakeRows(Random& random, Kind kind, const std::vector<int64_t>& lengths, int64_t in, int64_t r, int64_t c);

// Whether the numbers in a matrix of good sizes are well formed.
bool Valid(const Matrix& m);

// A value of IEEE half precision, NaN and infinity included.
double HalfValue(uint16_t bits);

// A token rounded to eight bits as docs/kernels.md has it, in float32 and ties to even. Returns m / 127 in float64.
double Quantize(const float* x, int64_t count, std::vector<int32_t>* q);

struct Product {
  std::vector<double> y;      // [tokens, out]
  std::vector<double> bound;  // how far float32 may be off
};

// y[t, n] = bias[n] + sum_k W[n, k] x[t, k], where weights have eight bits with x rounded as the kernels round it.
//
// The bound of float weights is 16 units of rounding of the sum of magnitudes: n terms are off by at most n/2, in
// practice by far less. Eight-bit sums are exact; what follows is one conversion, the scales and a sum: 4 units.
Product Multiply(const Matrix& m, const std::vector<float>& x, int64_t tokens);

// Tokens of random numbers. With eight-bit weights the first few are such as rounding may get wrong: halves, zeros,
// numbers too small to be scaled up, large ones, a single spike.
std::vector<float> Activations(Random& random, const Matrix& m, int64_t tokens);

// Tells of the first number that is off by more than its bound.
void Compare(const std::string& what, const std::vector<float>& y, const Product& expected);

}  // namespace check
