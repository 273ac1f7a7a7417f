// What an encoder does to each token or number alone, and the table of it all (see stages.h). Compiled once per
// instruction set, as linear.cc is.
#include "math.h"
#include "simd.h"
#include "stages.h"

namespace aerogel {
namespace AEROGEL_ISA {

// attention.cc
void Attention(const AttentionArgs& args);
int64_t AttentionScratch(int64_t head_size);

namespace {

void Gelu(float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] *= 0.5f * (1.0f + __builtin_erff(x[i] * 0.70710678f));
}

void GeluTanh(float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] *= 0.5f * (1.0f + __builtin_tanhf(0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
  }
}

void Relu(float* x, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) Store(x + i, Max(Set(0.0f), Load(x + i)));
}

void LayerNorm(const float* x, int64_t features, int64_t stride, int vectors, const float* gamma, const float* beta,
               float epsilon, float* y) {
  const Vec share = Set(1.0f / static_cast<float>(features));
  for (int64_t t = 0; t < vectors * kWidth; t += kWidth) {
    Vec sum = Set(0.0f), squares = sum;
    for (int64_t k = 0; k < features; ++k) sum = Add(sum, Load(x + k * stride + t));
    const Vec mean = Mul(sum, share);
    for (int64_t k = 0; k < features; ++k) {
      const Vec d = Sub(Load(x + k * stride + t), mean);
      squares = MulAdd(d, d, squares);
    }
    const Vec inverse = Div(Set(1.0f), Sqrt(MulAdd(squares, share, Set(epsilon))));
    for (int64_t k = 0; k < features; ++k) {
      const Vec d = Mul(Sub(Load(x + k * stride + t), mean), inverse);
      Store(y + k * stride + t, MulAdd(d, Set(gamma[k]), Set(beta[k])));
    }
  }
}

void AbsMax(const float* x, int64_t features, int64_t stride, int vectors, float* m) {
  for (int64_t t = 0; t < vectors * kWidth; t += kWidth) {
    Vec most = Set(0.0f);
    for (int64_t k = 0; k < features; ++k) most = MaxAbs(most, Load(x + k * stride + t));
    Store(m + t, most);
  }
}

void Quantize(const float* x, int64_t features, int64_t stride, int vectors, const float* inverse, int offset,
              uint8_t* q) {
  const int32_t flip = offset ? static_cast<int32_t>(0x80808080) : 0;
  for (int64_t k = 0; k < features; k += 4) {
    for (int64_t t = 0; t < vectors * kWidth; t += kWidth) {
      const Vec factor = Load(inverse + t);
      Vec scaled[4];
      for (int64_t i = 0; i < 4; ++i) {
        scaled[i] = k + i < features ? Mul(Load(x + (k + i) * stride + t), factor) : Set(0.0f);
      }
      StoreQuads(q + k * stride + 4 * t, scaled[0], scaled[1], scaled[2], scaled[3], flip);
    }
  }
}

void GatherRows(const float* const* rows, int64_t tokens, int64_t features, int vectors, float* xt) {
  const int64_t tile = int64_t{vectors} * kWidth;
  for (int64_t t = 0; t < tile; ++t) {
    for (int64_t k = 0; k < features; ++k) xt[k * tile + t] = t < tokens ? rows[t][k] : 0.0f;
  }
}

void ScatterRows(const float* xt, int64_t stride, int64_t tokens, int64_t features, float* const* rows) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < features; ++k) rows[t][k] = xt[k * stride + t];
  }
}

const StageTable kTable = {AEROGEL_NAME, kWidth,   Gelu,       GeluTanh,    Relu,      LayerNorm,
                           AbsMax,       Quantize, GatherRows, ScatterRows, Attention, AttentionScratch};

}  // namespace
}  // namespace AEROGEL_ISA

const StageTable* const AEROGEL_STAGES = &AEROGEL_ISA::kTable;

}  // namespace aerogel
