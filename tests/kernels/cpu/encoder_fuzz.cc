// Fuzzes the loading of an encoder: exactly encoders whose matrices are well formed and fit together are accepted, and
// they run.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "encoders.h"
#include "fuzz.h"

using check::Expect;
using check::Matrix;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check::Bytes bytes(data, size);
  const char* isa = check::Isa(bytes);
  const int64_t hidden = bytes.Size(24), qkv_dim = bytes.Size(24), inner = bytes.Size(40);
  check::Encoder encoder;
  encoder.hidden = hidden;
  encoder.heads = static_cast<int8_t>(bytes.Byte());
  if (encoder.heads > 4) encoder.heads = 1;
  encoder.activation = bytes.Byte() % 4;
  encoder.first_token_only = bytes.Byte() % 2;
  const int32_t epsilon = bytes.Byte() % 4 ? 0x3727c5ac : bytes.Word();  // mostly 1e-5
  std::memcpy(&encoder.epsilon, &epsilon, sizeof epsilon);
  bool good = encoder.heads > 0 && qkv_dim % encoder.heads == 0 && encoder.activation < 3 && encoder.epsilon >= 0;
  for (int64_t i = bytes.Byte() % 3; i >= 0; --i) {
    check::Layer layer;
    const int64_t own = bytes.Byte() % 4 ? inner : bytes.Size(40);
    const int64_t sizes[][2] = {{qkv_dim, hidden}, {qkv_dim, hidden}, {qkv_dim, hidden},
                                {hidden, qkv_dim}, {own, hidden},     {hidden, own}};
    const std::vector<Matrix*> matrices = layer.matrices();
    for (size_t j = 0; j < 6; ++j) {
      int64_t out = sizes[j][0], in = sizes[j][1];
      const uint8_t change = bytes.Byte();
      if (change % 32 == 0) out = bytes.Size(24);
      if (change % 32 == 1) in = bytes.Size(24);
      good = good && out == sizes[j][0] && in == sizes[j][1];
      const int64_t r = change % 4 == 2 && out % 4 == 0 ? 4 : 1, c = change % 4 == 3 && in % 2 == 0 ? 2 : 1;
      *matrices[j] = check::Good(bytes, out / r, in / c, r, c);
      Damage(bytes, matrices[j]);
      good = good && Valid(*matrices[j]);
    }
    check::Random random(bytes.Byte());
    for (std::vector<float>* vector : {&layer.gamma1, &layer.beta1, &layer.gamma2, &layer.beta2}) {
      *vector = check::Uniforms(random, layer.q.in);
    }
    encoder.layers.push_back(std::move(layer));
  }
  std::string error;
  const check::Prepared prepared = encoder.Create(isa, &error);
  Expect((prepared != nullptr) == good, encoder.Describe() + (prepared ? " accepted" : " " + error));
  Expect(prepared || !error.empty(), "refused without a reason");
  if (!prepared) return 0;

  const int64_t batch = bytes.Size(4), sequence = bytes.Size(40);
  check::Random random(bytes.Byte());
  const std::vector<float> x = check::Uniforms(random, batch * sequence * hidden);
  std::vector<int64_t> mask;
  for (int64_t i = 0; i < batch * sequence; ++i) mask.push_back(bytes.Byte() % 3);
  const int64_t results = encoder.first_token_only ? 1 : sequence;  // of each sequence
  std::vector<float> y = check::Poisoned(batch * results * hidden), again = y;
  Expect(!aerogel_encoder_run(prepared.get(), x.data(), mask.data(), batch, sequence, y.data(), 1), "run");
  Expect(!aerogel_encoder_run(prepared.get(), x.data(), mask.data(), batch, sequence, again.data(), 2), "run");
  Expect(check::SameBits(y.data(), again.data(), static_cast<int64_t>(y.size())), "depends on threads");
  for (size_t i = 0; i < y.size(); ++i) {
    const int64_t token = static_cast<int64_t>(i) / hidden;
    const bool real = mask[static_cast<size_t>(token / results * sequence + token % results)] != 0;
    // Without epsilon a token of equal features is 0 / 0.
    Expect(real ? std::isfinite(y[i]) || encoder.epsilon < 1e-12f || !std::isfinite(encoder.epsilon) : y[i] == 0,
           encoder.Describe() + " gives " + std::to_string(y[i]));
  }
  return 0;
}
