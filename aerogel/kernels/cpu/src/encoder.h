// A stack of post-LayerNorm encoder layers, behind the operator Encoder_v1 and the C interface.
//
//   Q, K, V = x W^T + b;   x1 = LN(x + softmax(Q K^T / sqrt(d)) V Wo^T + bo);   y = LN(x1 + W2 act(W1 x1 + b1) + b2)
//
// Activations stay feature-major from the first matrix to the last, in tiles of tokens, so nothing is transposed
// between layers. Masked tokens are dropped at the start: the cost of a ragged batch is that of its real tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "matrix.h"
#include "parallel.h"

namespace aerogel {

enum class Activation { kGelu, kGeluTanh, kRelu };

struct EncoderLayer {
  std::unique_ptr<Matrix> q, k, v, o, ffn1, ffn2;
  std::vector<float> gamma1, beta1, gamma2, beta2;
  void (*attention)(const AttentionArgs&) = nullptr;  // chosen by Encoder::Create
};

// The names of a layer's matrices, in the order of operators and messages.
constexpr const char* kMatrixNames[] = {"q", "k", "v", "o", "ffn1", "ffn2"};

// The result of preparing a layer: which of kMatrixNames is malformed, and how.
struct LayerStatus {
  size_t matrix = 0;
  Status status;
};

// Prepares the matrices of a layer; source's data must outlive the result. On failure says why in `status`.
EncoderLayer MakeLayer(const AerogelEncoderLayer& source, const KernelTable& kernels, LayerStatus* status);

class Encoder {
 public:
  // Checks that the sizes of the layers agree; on failure returns null and says why in `error`.
  // first_token_only: only each sequence's first token is computed in the last layer.
  static std::unique_ptr<Encoder> Create(std::vector<EncoderLayer> layers, int64_t heads, float epsilon,
                                         Activation activation, bool first_token_only, std::string* error);

  // hidden, y [batch, sequence, features()] (y [batch, 1, features()] if only the first tokens are computed); mask
  // [batch, sequence], nonzero for real tokens; y is zero elsewhere.
  // Results do not depend on the number of threads, nor on which other sequences share the call.
  // Throws std::bad_alloc, only from the calling thread. May be called by several threads at once.
  void Run(const float* hidden, const int64_t* mask, int64_t batch, int64_t sequence, float* y,
           const Parallel& parallel) const;

  bool first_token_only() const { return first_token_only_; }
  int64_t features() const { return layers_[0].q->in_features(); }

 private:
  Encoder() = default;

  std::vector<EncoderLayer> layers_;
  std::vector<std::vector<int64_t>> live_heads_;  // of each layer, those that o reads
  int64_t heads_ = 0;
  int64_t qkv_dim_ = 0;  // features of Q, K and V
  int64_t ffn_dim_ = 0;  // features between ffn1 and ffn2, of the widest layer
  float epsilon_ = 0;
  Activation activation_ = Activation::kGelu;
  bool first_token_only_ = false;
  bool quantized_ = false;  // whether any matrix takes eight-bit activations

  friend class EncoderRun;
};

}  // namespace aerogel
