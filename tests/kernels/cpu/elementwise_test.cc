// Compares the functions of elementwise.h with float64, for every instruction set of this machine.
//
// Outputs are filled with NaN first. Buffers on the heap have exactly the promised size, so that the address sanitizer
// guards their ends.
//
//   elementwise_test [--seed N]
#include <cmath>
#include <memory>

#include "isa_check.h"

namespace {

using namespace check;

// Applies the function to `xs` in runs of 1 to 9 vectors, so that every tail occurs.
std::vector<float> Apply(const KernelTable& kernels, void (*function)(float*, int64_t), const std::vector<float>& xs) {
  std::vector<float> ys;
  for (size_t i = 0, vectors = 1; i < xs.size(); vectors = vectors % 9 + 1) {
    const size_t count = std::min(vectors * kernels.width, xs.size() - i);
    Aligned<float> run(static_cast<int64_t>(vectors) * kernels.width, 0.0f);
    std::copy_n(xs.begin() + i, count, run.data());
    function(run.data(), run.size());
    ys.insert(ys.end(), run.data(), run.data() + count);
    i += count;
  }
  return ys;
}

// Every 2^step-th float from `first` to `last`, which have the same sign.
std::vector<float> Sweep(float first, float last, int step) {
  uint32_t from, to;
  std::memcpy(&from, &first, sizeof from);
  std::memcpy(&to, &last, sizeof to);
  std::vector<float> xs;
  for (uint32_t bits = from; bits <= to; bits += 1u << step) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    xs.push_back(x);
  }
  return xs;
}

void CheckExp2(const KernelTable& kernels) {
  std::vector<float> xs = Sweep(-0.0f, -126.0f, 12);
  const std::vector<float> above = Sweep(0.0f, 127.0f, 14);
  xs.insert(xs.end(), above.begin(), above.end());
  const std::vector<float> ys = Apply(kernels, kernels.elementwise->exp2, xs);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double expected = std::exp2(double{xs[i]});
    int exponent;
    std::frexp(expected, &exponent);
    const double error = std::fabs(ys[i] - expected) / std::ldexp(kEpsilon, exponent - 1);
    if (!(error <= aerogel::kExp2MaxUlp))
      Expect(false, kernels, "exp2(" + std::to_string(xs[i]) + ") is " + std::to_string(ys[i]));
    worst = std::max(worst, error);
  }
  std::printf("  exp2       %.2f units in the last place\n", worst);
  const std::vector<float> special =
      Apply(kernels, kernels.elementwise->exp2, {-126.5f, -1e10f, -kInfinity, -3e38f, 0.0f, kNaN});
  for (int i = 0; i < 4; ++i) Expect(special[i] == 0.0f, kernels, "exp2 of a large negative number is not 0");
  Expect(special[4] == 1.0f, kernels, "exp2(0) is not 1");
  Expect(std::isnan(special[5]), kernels, "exp2(NaN) is a number");
}

void CheckGelu(const KernelTable& kernels, const char* name, void (*function)(float*, int64_t),
               double (*exact)(double)) {
  std::vector<float> xs = {0.0f, 1e-30f, 20.0f, 1e10f, 3e38f, kInfinity};
  for (float x : Sweep(1e-6f, 12.0f, 10)) xs.push_back(x);
  for (size_t i = 0, positive = xs.size(); i < positive; ++i) xs.push_back(-xs[i]);
  xs.back() = kNaN;
  const std::vector<float> ys = Apply(kernels, function, xs);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double x = xs[i];
    const std::string what = std::string(name) + "(" + std::to_string(x) + ") is " + std::to_string(ys[i]);
    if (std::isnan(x) || x == -kInfinity) {  // x times 0 is NaN
      Expect(std::isnan(ys[i]), kernels, what);
    } else if (std::fabs(x) > 6) {
      Expect(ys[i] == (x > 0 ? xs[i] : 0.0f), kernels, what);
    } else {
      const double error = std::fabs(ys[i] - x * exact(x)) / std::max(1.0, std::fabs(x));
      Expect(error <= aerogel::kGeluMaxError, kernels, what);
      worst = std::max(worst, error);
    }
  }
  std::printf("  %-10s %.2g max(1, |x|)\n", name, worst);
}

void CheckRelu(const KernelTable& kernels) {
  const std::vector<float> ys =
      Apply(kernels, kernels.elementwise->relu, {-1.0f, 2.5f, -0.0f, kInfinity, -kInfinity, kNaN});
  const float expected[] = {0.0f, 2.5f, 0.0f, kInfinity, 0.0f};
  for (int i = 0; i < 5; ++i) Expect(ys[i] == expected[i], kernels, "relu");
  Expect(std::isnan(ys[5]), kernels, "relu(NaN) is a number");
}

// One token whose mean is far from 0, or with one outlier feature, as in trained models.
std::vector<float> Token(Random& random, int64_t features) {
  std::vector<float> x(static_cast<size_t>(features));
  const float mean = random() % 3 ? Normal(random) : 1000.0f * Normal(random);
  for (float& v : x) v = mean + Normal(random);
  if (random() % 2) x[random() % x.size()] = 100.0f * Normal(random);
  return x;
}

void CheckLayerNorm(Random& random, const KernelTable& kernels) {
  double worst = 0;
  for (int64_t features : {1, 2, 3, 31, 32, 33, 63, 64, 65, 97, 384, 768}) {
    for (int vectors = 1; vectors <= 9; vectors = vectors < 4 ? vectors + 1 : vectors + 5) {
      const int64_t stride = int64_t{vectors} * kernels.width;
      const bool in_place = random() % 2;
      const float epsilon = random() % 2 ? 1e-12f : 1e-5f;
      Aligned<float> x(features * stride, 0.0f), y(features * stride, kNaN), gamma(features, 0.0f),
          beta(features, 0.0f);
      for (int64_t k = 0; k < features; ++k) gamma[k] = Normal(random), beta[k] = Normal(random);
      std::vector<std::vector<float>> tokens;
      for (int64_t t = 0; t < stride; ++t) {
        tokens.push_back(Token(random, features));
        if (t == 1) tokens[1][static_cast<size_t>(features) / 2] = kNaN;
        for (int64_t k = 0; k < features; ++k) x[k * stride + t] = tokens.back()[k];
      }
      float* to = in_place ? x.data() : y.data();
      kernels.elementwise->layer_norm(x.data(), features, stride, vectors, gamma.data(), beta.data(), epsilon, to);
      // The same token in a tile of one vector.
      const int64_t alone = static_cast<int64_t>(random() % static_cast<uint64_t>(stride)), w = kernels.width;
      Aligned<float> one(features * w, 0.0f);
      for (int64_t k = 0; k < features; ++k) one[k * w + w - 1] = tokens[alone][k];
      kernels.elementwise->layer_norm(one.data(), features, w, 1, gamma.data(), beta.data(), epsilon, one.data());
      for (int64_t k = 0; k < features && alone != 1; ++k) {
        Expect(!std::memcmp(&one[k * w + w - 1], to + k * stride + alone, sizeof(float)), kernels,
               "layer_norm depends on the place");
      }
      for (int64_t t = 0; t < stride; ++t) {
        double mean = 0, variance = 0, size = 0;
        for (float v : tokens[t]) mean += v / static_cast<double>(features);
        for (float v : tokens[t]) size += std::fabs(v) / static_cast<double>(features);
        for (float v : tokens[t]) variance += (v - mean) * (v - mean) / static_cast<double>(features);
        const double deviation = std::sqrt(variance + epsilon);
        for (int64_t k = 0; k < features; ++k) {
          const float got = to[k * stride + t];
          const std::string what = "layer_norm of " + std::to_string(features) + " features";
          if (t == 1) {
            Expect(std::isnan(got), kernels, what + " lost a NaN");
            continue;
          }
          const double expected = (tokens[t][k] - mean) / deviation * gamma[k] + beta[k];
          // The error of the mean scales with the features, the other errors with the added terms.
          const double unit = kEpsilon * (std::fabs(gamma[k]) * (size + std::fabs(tokens[t][k] - mean)) / deviation +
                                          std::fabs(beta[k]));
          const double error = std::fabs(got - expected) / unit;
          Expect(error <= 4.0, kernels, what + ": off by " + std::to_string(error) + " units");
          worst = std::max(worst, error);
        }
      }
    }
  }
  std::printf("  layer_norm %.2f units of rounding\n", worst);
}

void CheckQuantize(Random& random, const KernelTable& kernels) {
  for (int64_t features : {1, 2, 3, 4, 5, 7, 8, 66, 768}) {
    for (int vectors : {1, 2, 3, 4, 7}) {
      const int64_t stride = int64_t{vectors} * kernels.width, quads = (features + 3) / 4;
      const int offset = random() % 2 ? 128 : 0;
      Aligned<float> x(features * stride, 0.0f), most(stride, kNaN), inverse(stride, 0.0f);
      Aligned<uint8_t> q(quads * stride * 4, 77);
      for (int64_t i = 0; i < x.size(); ++i) x[i] = Normal(random);
      // Token 0 has many ties, 1 a NaN, 2 an infinity, 3 numbers beyond the integer range.
      for (int64_t k = 0; k < features; ++k) x[k * stride] = 0.5f * static_cast<float>(k % 254) - 63.0f;
      x[1] = kNaN, x[2] = -kInfinity, x[3] = 1e20f, x[(features - 1) * stride + 3] = -1e20f;
      kernels.elementwise->absmax(x.data(), features, stride, vectors, most.data());
      for (int64_t t = 0; t < stride; ++t) {
        float expected = 0.0f;
        for (int64_t k = 0; k < features; ++k) expected = std::max(expected, std::fabs(x[k * stride + t]));
        Expect(t == 1 ? std::isnan(most[t]) : most[t] == expected, kernels, "absmax");
        inverse[t] = t == 0 ? 1.0f : t == 3 ? 3.0f : 127.0f / std::max(expected, 1e-20f);
      }
      kernels.elementwise->quantize(x.data(), features, stride, vectors, inverse.data(), offset, q.data());
      for (int64_t k = 0; k < 4 * quads; ++k) {
        for (int64_t t = 0; t < stride; ++t) {
          const int got = offset ? q[(k / 4 * stride + t) * 4 + k % 4] - offset
                                 : static_cast<int8_t>(q[(k / 4 * stride + t) * 4 + k % 4]);
          const float scaled = k < features ? x[k * stride + t] * inverse[t] : 0.0f;
          if (std::isnan(scaled)) {
            Expect(got >= -127 && got <= 127, kernels, "quantize: NaN is out of range");
          } else {
            const auto expected = static_cast<int>(std::nearbyint(std::min(127.0f, std::max(-127.0f, scaled))));
            Expect(got == expected, kernels,
                   "quantize of " + std::to_string(scaled) + " is " + std::to_string(got) + ", feature " +
                       std::to_string(k) + " of " + std::to_string(features));
          }
        }
      }
    }
  }
}

void CheckRows(Random& random, const KernelTable& kernels) {
  for (int64_t features : {1, 2, 3, 4, 5, 15, 16, 17, 40, 384}) {
    for (int vectors : {1, 2, 3, 4, 5}) {
      const int64_t stride = int64_t{vectors} * kernels.width;
      for (int64_t tokens : {int64_t{1}, kernels.width - int64_t{1}, stride - 3, stride - 1, stride}) {
        std::vector<std::unique_ptr<float[]>> from, to;
        std::vector<const float*> sources;
        std::vector<float*> targets;
        for (int64_t t = 0; t < tokens; ++t) {
          from.emplace_back(new float[static_cast<size_t>(features)]);
          to.emplace_back(new float[static_cast<size_t>(features)]);
          std::generate_n(from.back().get(), features, [&] { return Normal(random); });
          std::fill_n(to.back().get(), features, kNaN);
          sources.push_back(from.back().get());
          targets.push_back(to.back().get());
        }
        Aligned<float> xt(features * stride, kNaN);
        kernels.elementwise->gather_rows(sources.data(), tokens, features, vectors, xt.data());
        for (int64_t i = 0; i < xt.size(); ++i) {
          const int64_t t = i % stride;
          Expect(xt[i] == (t < tokens ? from[t][i / stride] : 0.0f), kernels, "gather_rows");
          if (t >= tokens) xt[i] = kNaN;  // must not be read
        }
        kernels.elementwise->scatter_rows(xt.data(), stride, tokens, features, targets.data());
        for (int64_t t = 0; t < tokens; ++t) {
          Expect(!std::memcmp(from[t].get(), to[t].get(), static_cast<size_t>(features) * sizeof(float)), kernels,
                 "scatter_rows");
        }
      }
    }
  }
}

void Check(Random& random, const KernelTable& kernels) {
  CheckExp2(kernels);
  CheckGelu(kernels, "gelu", kernels.elementwise->gelu, [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); });
  CheckGelu(kernels, "gelu_tanh", kernels.elementwise->gelu_tanh, [](double x) {
    return 0.5 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
  });
  CheckRelu(kernels);
  CheckLayerNorm(random, kernels);
  CheckQuantize(random, kernels);
  CheckRows(random, kernels);
}

}  // namespace

int main(int argc, char** argv) { return ForIsas(argc, argv, Check); }
