// Encoders of any size and mixture of matrices, and their results in float64.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "matrices.h"

namespace check {

using Prepared = std::unique_ptr<AerogelEncoder, decltype(&aerogel_encoder_destroy)>;

struct Layer {
  Matrix q, k, v, o, ffn1, ffn2;
  std::vector<float> gamma1, beta1, gamma2, beta2;

  AerogelEncoderLayer View() const;
  std::vector<Matrix*> matrices() { return {&q, &k, &v, &o, &ffn1, &ffn2}; }
};

struct Encoder {
  int64_t hidden = 0;
  int64_t heads = 1;
  float epsilon = 1e-12f;
  int activation = AEROGEL_GELU;
  int first_token_only = 0;
  std::vector<Layer> layers;

  // Null, with a reason, if the library rejects it. The result points into this object.
  Prepared Create(const char* isa, std::string* error) const;
  bool rounds() const;            // whether any matrix quantizes activations
  bool rounds_attention() const;  // whether q, k and v of any layer all do
  std::string Describe() const;
};

struct Sizes {
  int64_t hidden, heads, head_size, inner, layers;
};

// Draws the types of matrices from `kinds`. Some rows, columns and whole heads are empty.
Encoder MakeEncoder(Random& random, const Sizes& sizes, const std::vector<Kind>& kinds, int activation);

// A matrix of random structure whose results have the magnitude of its arguments.
Matrix MakeWeight(Random& random, Kind kind, int64_t out, int64_t in);

// Removes the entries of columns [first, end).
void Prune(Matrix* m, int64_t first, int64_t end);

// y [tokens, hidden] of one sequence x [tokens, hidden], all tokens of which are real:
//
//   Q, K, V = x W^T + b;   A = softmax(Q K^T / sqrt(d)) V by head
//   x1 = LN(x + A Wo^T + bo);   y = LN(x1 + W2 act(W1 x1 + b1) + b2)
//
// Matrices of int8 weights quantize their activations like the kernels, from these values.
std::vector<double> Apply(const Encoder& encoder, const float* x, int64_t tokens);

}  // namespace check
