#include "encoders.h"

#include <algorithm>
#include <cmath>

namespace check {
namespace {

using Numbers = std::vector<double>;

// W [out, in]; int8 weights are not scaled.
Numbers Expand(const Matrix& m) {
  Numbers w(static_cast<size_t>(m.out * m.in));
  for (int64_t n = 0; n < m.out; ++n) {
    if (m.kind == Kind::kDense) {
      for (int64_t k = 0; k < m.in; ++k) w[n * m.in + k] = m.values[static_cast<size_t>(k * m.out + n)];
      continue;
    }
    for (int32_t i = m.indptr[n / m.r]; i < m.indptr[n / m.r + 1]; ++i) {
      for (int64_t j = 0; j < m.c; ++j) {
        w[n * m.in + m.indices[i] * m.c + j] = m.values[static_cast<size_t>((i * m.r + n % m.r) * m.c + j)];
      }
    }
  }
  return w;
}

Numbers Project(const Matrix& m, const Numbers& x, int64_t tokens) {
  const Numbers w = Expand(m);
  Numbers y, row(static_cast<size_t>(m.in));
  std::vector<int32_t> q;
  for (int64_t t = 0; t < tokens; ++t) {
    double token_scale = 1;
    if (m.kind == Kind::kInt8) {
      const std::vector<float> rounded(x.begin() + t * m.in, x.begin() + (t + 1) * m.in);
      token_scale = Quantize(rounded.data(), m.in, &q);
      row.assign(q.begin(), q.end());
    } else {
      row.assign(x.begin() + t * m.in, x.begin() + (t + 1) * m.in);
    }
    for (int64_t n = 0; n < m.out; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < m.in; ++k) sum += w[n * m.in + k] * row[k];
      if (m.kind == Kind::kInt8) sum *= token_scale * m.scale[static_cast<size_t>(n)];
      y.push_back(sum + m.bias[static_cast<size_t>(n)]);
    }
  }
  return y;
}

Numbers Attend(const Numbers& q, const Numbers& k, const Numbers& v, int64_t tokens, int64_t features, int64_t heads) {
  const int64_t d = features / heads;
  Numbers context(q.size()), p(static_cast<size_t>(tokens));
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < tokens; ++i) {
      double most = -HUGE_VAL, total = 0;
      for (int64_t j = 0; j < tokens; ++j) {
        p[j] = 0;
        for (int64_t f = head * d; f < (head + 1) * d; ++f) p[j] += q[i * features + f] * k[j * features + f];
        p[j] /= std::sqrt(static_cast<double>(d));
        most = std::max(most, p[j]);
      }
      for (double& share : p) total += share = std::exp(share - most);
      for (int64_t f = head * d; f < (head + 1) * d; ++f) {
        for (int64_t j = 0; j < tokens; ++j) context[i * features + f] += p[j] / total * v[j * features + f];
      }
    }
  }
  return context;
}

// LN(x + y), token by token.
Numbers AddAndNormalize(const Numbers& x, const Numbers& y, const std::vector<float>& gamma,
                        const std::vector<float>& beta, double epsilon) {
  Numbers sum(x.size());
  const size_t width = gamma.size();
  for (size_t first = 0; first < x.size(); first += width) {
    double mean = 0, variance = 0;
    for (size_t i = first; i < first + width; ++i) mean += (sum[i] = x[i] + y[i]) / static_cast<double>(width);
    for (size_t i = first; i < first + width; ++i) {
      variance += (sum[i] - mean) * (sum[i] - mean) / static_cast<double>(width);
    }
    for (size_t i = first; i < first + width; ++i) {
      sum[i] = (sum[i] - mean) / std::sqrt(variance + epsilon) * gamma[i - first] + beta[i - first];
    }
  }
  return sum;
}

double Activate(double x, int activation) {
  constexpr double kPi = 3.14159265358979323846;
  if (activation == AEROGEL_GELU) return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
  if (activation == AEROGEL_GELU_TANH) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
  }
  return std::max(x, 0.0);
}

}  // namespace

AerogelEncoderLayer Layer::View() const {
  return {q.View(),    k.View(),      v.View(),     o.View(),      ffn1.View(),
          ffn2.View(), gamma1.data(), beta1.data(), gamma2.data(), beta2.data()};
}

Prepared Encoder::Create(const char* isa, std::string* error) const {
  std::vector<AerogelEncoderLayer> views;
  for (const Layer& layer : layers) views.push_back(layer.View());
  char text[256] = "";
  Prepared made(aerogel_encoder_create(views.data(), static_cast<int64_t>(views.size()), heads, epsilon, activation,
                                       first_token_only, isa, text, sizeof text),
                aerogel_encoder_destroy);
  *error = text;
  return made;
}

bool Encoder::rounds() const {
  for (const Layer& layer : layers) {
    for (const Matrix* m : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.ffn1, &layer.ffn2}) {
      if (m->kind == Kind::kInt8) return true;
    }
  }
  return false;
}

bool Encoder::rounds_attention() const {
  return std::any_of(layers.begin(), layers.end(), [](const Layer& layer) {
    return layer.q.kind == Kind::kInt8 && layer.k.kind == Kind::kInt8 && layer.v.kind == Kind::kInt8;
  });
}

std::string Encoder::Describe() const {
  std::string text = std::to_string(layers.size()) + " layers, " + std::to_string(hidden) + " features, " +
                     std::to_string(heads) + " heads, activation " + std::to_string(activation) + ":";
  for (const Layer& layer : layers) {
    for (const Matrix* m : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.ffn1, &layer.ffn2}) {
      text += " " + m->Describe() + ",";
    }
  }
  return text;
}

Matrix MakeWeight(Random& random, Kind kind, int64_t out, int64_t in) {
  const int64_t shapes[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 4}, {4, 4}, {3, 5}};
  int64_t r = 1, c = 1;
  const auto& shape = shapes[random() % (sizeof shapes / sizeof *shapes)];
  if (kind != Kind::kDense && out % shape[0] == 0 && in % shape[1] == 0) r = shape[0], c = shape[1];
  const double densities[] = {0.05, 0.2, 0.5};
  const double density = kind == Kind::kDense ? 1 : densities[random() % 3];
  Matrix m = Make(random, kind, out, in, r, c, density, random() % 2 != 0);
  const auto scale = static_cast<float>(1.7 / std::sqrt(static_cast<double>(in) * density + 1));
  if (kind == Kind::kInt8) {
    for (float& s : m.scale) s = scale / 127 * (1 + 0.5f * Uniform(random));
  } else if (kind != Kind::kFloat16) {  // whose values are already small
    for (float& value : m.values) value *= scale;
  }
  for (float& b : m.bias) b *= 0.5f;
  return m;
}

void Prune(Matrix* m, int64_t first, int64_t end) {
  Matrix kept = *m;
  kept.values.clear(), kept.halves.clear(), kept.bytes.clear(), kept.indices.clear();
  const auto size = static_cast<size_t>(m->r * m->c);
  const auto copy = [&](const auto& from, auto* to, size_t block) {
    if (!from.empty()) to->insert(to->end(), from.begin() + block * size, from.begin() + (block + 1) * size);
  };
  for (size_t row = 0; row + 1 < m->indptr.size(); ++row) {
    for (auto i = static_cast<size_t>(m->indptr[row]); i < static_cast<size_t>(m->indptr[row + 1]); ++i) {
      const int64_t column = m->indices[i] * m->c;
      if (column + m->c > first && column < end) continue;
      kept.indices.push_back(m->indices[i]);
      copy(m->values, &kept.values, i), copy(m->halves, &kept.halves, i), copy(m->bytes, &kept.bytes, i);
    }
    kept.indptr[row + 1] = static_cast<int32_t>(kept.indices.size());
  }
  *m = kept;
}

Encoder MakeEncoder(Random& random, const Sizes& sizes, const std::vector<Kind>& kinds, int activation) {
  Encoder encoder;
  encoder.hidden = sizes.hidden, encoder.heads = sizes.heads, encoder.activation = activation;
  encoder.epsilon = random() % 2 ? 1e-12f : 1e-5f;
  const int64_t qkv_dim = sizes.heads * sizes.head_size;
  const auto around = [&](float middle) {
    std::vector<float> numbers = Uniforms(random, sizes.hidden);
    for (float& x : numbers) x = middle + 0.3f * x;
    return numbers;
  };
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const auto weight = [&](int64_t out, int64_t in) {
      return MakeWeight(random, kinds[random() % kinds.size()], out, in);
    };
    Layer layer{weight(qkv_dim, sizes.hidden),
                weight(qkv_dim, sizes.hidden),
                weight(qkv_dim, sizes.hidden),
                weight(sizes.hidden, qkv_dim),
                weight(sizes.inner, sizes.hidden),
                weight(sizes.hidden, sizes.inner),
                around(1),
                around(0),
                around(1),
                around(0)};
    if (layer.o.kind != Kind::kDense && random() % 2) {  // an unused head
      const auto head = static_cast<int64_t>(random() % static_cast<uint64_t>(sizes.heads));
      Prune(&layer.o, head * sizes.head_size, (head + 1) * sizes.head_size);
    }
    if (layer.ffn2.kind != Kind::kDense && random() % 2) Prune(&layer.ffn2, sizes.inner / 3, sizes.inner / 2);
    encoder.layers.push_back(std::move(layer));
  }
  return encoder;
}

std::vector<double> Apply(const Encoder& encoder, const float* hidden, int64_t tokens) {
  Numbers x(hidden, hidden + tokens * encoder.hidden);
  for (const Layer& layer : encoder.layers) {
    const Numbers context = Attend(Project(layer.q, x, tokens), Project(layer.k, x, tokens),
                                   Project(layer.v, x, tokens), tokens, layer.q.out, encoder.heads);
    x = AddAndNormalize(x, Project(layer.o, context, tokens), layer.gamma1, layer.beta1, double{encoder.epsilon});
    Numbers inner = Project(layer.ffn1, x, tokens);
    for (double& value : inner) value = Activate(value, encoder.activation);
    x = AddAndNormalize(x, Project(layer.ffn2, inner, tokens), layer.gamma2, layer.beta2, double{encoder.epsilon});
  }
  return x;
}

}  // namespace check
