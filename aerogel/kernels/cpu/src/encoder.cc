#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "encoder_run.h"

namespace aerogel {
namespace {

// Whole sequences are taken together up to this many tokens: enough for many threads to share, few enough for the
// activations to stay in cache.
constexpr int64_t kGroupTokens = 512;

std::string Sizes(const Matrix& m) { return std::to_string(m.out_features()) + "x" + std::to_string(m.in_features()); }

}  // namespace

EncoderLayer MakeLayer(const AerogelEncoderLayer& source, const KernelTable& kernels, LayerStatus* status) {
  EncoderLayer layer;
  const auto make = [&](size_t which, const AerogelMatrix& matrix, const std::vector<bool>* keep = nullptr) {
    status->matrix = which;
    return Matrix::Create(matrix, kernels, &status->status, keep);
  };
  (layer.q = make(0, source.q)) && (layer.k = make(1, source.k)) && (layer.v = make(2, source.v)) &&
      (layer.o = make(3, source.o)) && (layer.ffn2 = make(5, source.ffn2)) &&
      // Outputs of ffn1 that ffn2 does not read need no products. Create checks the sizes later.
      (layer.ffn1 =
           make(4, source.ffn1, layer.ffn2->in_features() == source.ffn1.out_features ? layer.ffn2->read() : nullptr));
  if (!status->status.ok()) return layer;  // its sizes cannot be trusted
  const int64_t hidden = layer.q->in_features();
  layer.gamma1.assign(source.gamma1, source.gamma1 + hidden);
  layer.beta1.assign(source.beta1, source.beta1 + hidden);
  layer.gamma2.assign(source.gamma2, source.gamma2 + hidden);
  layer.beta2.assign(source.beta2, source.beta2 + hidden);
  return layer;
}

std::unique_ptr<Encoder> Encoder::Create(std::vector<EncoderLayer> layers, int64_t heads, float epsilon,
                                         Activation activation, bool first_token_only, std::string* error) {
  std::unique_ptr<Encoder> encoder(new Encoder);
  if (layers.empty()) {
    *error = "there is no layer";
    return nullptr;
  }
  const int64_t hidden = layers[0].q->in_features(), qkv_dim = layers[0].q->out_features();
  if (heads < 1 || qkv_dim % heads != 0) {
    *error = std::to_string(heads) + " heads do not divide " + std::to_string(qkv_dim) + " features";
    return nullptr;
  }
  if (!(epsilon >= 0.0f) || std::isinf(epsilon)) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", static_cast<double>(epsilon));
    *error = std::string("attribute epsilon is ") + text + "; it must be finite and not negative";
    return nullptr;
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const EncoderLayer& layer = layers[i];
    const int64_t ffn_dim = layer.ffn1->out_features();
    const struct {
      const char* name;
      const Matrix& matrix;
      int64_t out, in;
    } wanted[] = {{"q", *layer.q, qkv_dim, hidden},       {"k", *layer.k, qkv_dim, hidden},
                  {"v", *layer.v, qkv_dim, hidden},       {"o", *layer.o, hidden, qkv_dim},
                  {"ffn1", *layer.ffn1, ffn_dim, hidden}, {"ffn2", *layer.ffn2, hidden, ffn_dim}};
    for (const auto& w : wanted) {
      if (w.matrix.out_features() == w.out && w.matrix.in_features() == w.in) continue;
      *error = "layer " + std::to_string(i) + ": " + w.name + " is " + Sizes(w.matrix) + ", not " +
               std::to_string(w.out) + "x" + std::to_string(w.in);
      return nullptr;
    }
    encoder->ffn_dim_ = std::max(encoder->ffn_dim_, ffn_dim);
    for (const auto& w : wanted) encoder->quantized_ |= w.matrix.quantized();
    encoder->live_heads_.push_back(layer.o->ReadColumns(qkv_dim / heads));
  }
  const AttentionTable& attention = *layers[0].q->kernels().attention;
  const auto fits = [&](const AttentionKernel& kernel) {
    return kernel.run && kernel.scratch(qkv_dim / heads) <= kScratchFloats;
  };
  if (!fits(attention.fp32)) {
    *error = "heads of " + std::to_string(qkv_dim / heads) + " features are too large";
    return nullptr;
  }
  for (EncoderLayer& layer : layers) {
    // The error of bfloat16 in attention is small against that of projections with eight-bit activations.
    const bool quantized = layer.q->quantized() && layer.k->quantized() && layer.v->quantized();
    layer.attention = quantized && fits(attention.bf16) ? attention.bf16.run : attention.fp32.run;
  }
  encoder->layers_ = std::move(layers);
  encoder->heads_ = heads;
  encoder->qkv_dim_ = qkv_dim;
  encoder->epsilon_ = epsilon;
  encoder->activation_ = activation;
  encoder->first_token_only_ = first_token_only;
  return encoder;
}

void Encoder::Run(const float* hidden, const int64_t* mask, int64_t batch, int64_t sequence, float* y,
                  const Parallel& parallel) const {
  thread_local GrowingBuffer buffer;
  EncoderRun run(*this, parallel);
  std::vector<const float*> rows_in;
  std::vector<float*> rows_out;
  std::vector<int64_t> lengths;
  const auto flush = [&] {
    if (!rows_in.empty()) run.Run(rows_in, rows_out, lengths, &buffer);
    rows_in.clear(), rows_out.clear(), lengths.clear();
  };
  const int64_t width = features();
  const int64_t results = first_token_only_ ? 1 : sequence;  // of each sequence
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* const real = mask + b * sequence;
    float* const out = y + b * results * width;
    if (first_token_only_ && (sequence == 0 || real[0] == 0)) {
      std::fill(out, out + width, 0.0f);
      continue;
    }
    const int64_t length = std::count_if(real, real + sequence, [](int64_t m) { return m != 0; });
    if (static_cast<int64_t>(rows_in.size()) + length > kGroupTokens) flush();
    for (int64_t s = 0; s < sequence; ++s) {
      if (real[s] != 0) rows_in.push_back(hidden + (b * sequence + s) * width);
      if (s >= results) continue;
      float* const row = out + s * width;
      if (real[s] != 0) {
        rows_out.push_back(row);
      } else {
        std::fill(row, row + width, 0.0f);
      }
    }
    if (length > 0) lengths.push_back(length);
  }
  flush();
}

}  // namespace aerogel
