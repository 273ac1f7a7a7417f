// Holds the stages of a fused encoder (stages.h), for every instruction set of this machine, against float64.
//
// Outputs are filled with NaN beforehand, and buffers are exactly as large as promised and lie on the heap, where the
// address sanitizer guards their ends.
//
//   stages_test [--seed N]
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dispatch.h"

namespace {

using aerogel::AttentionArgs;
using aerogel::KeySpan;
using aerogel::StageTable;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
int failures = 0;

void Fail(const std::string& what) {
  if (++failures <= 50) std::printf("FAILED %s\n", what.c_str());
}

void Expect(bool good, const StageTable& stages, const std::string& what) {
  if (!good) Fail(std::string(stages.name) + ": " + what);
}

using Random = std::mt19937_64;

float Normal(Random& random) { return std::normal_distribution<float>()(random); }

// Exactly `size` elements on a boundary of 64 bytes.
template <typename T>
class Aligned {
 public:
  Aligned(int64_t size, T value)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), std::align_val_t(64)))),
        size_(size) {
    std::fill_n(data_, size, value);
  }
  ~Aligned() { ::operator delete(data_, std::align_val_t(64)); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  int64_t size() const { return size_; }

 private:
  T* data_;
  int64_t size_;
};

// The function on each of `xs`, in runs of 1 to 9 vectors so that every tail occurs.
std::vector<float> Apply(const StageTable& stages, void (*function)(float*, int64_t), const std::vector<float>& xs) {
  std::vector<float> ys;
  for (size_t i = 0, vectors = 1; i < xs.size(); vectors = vectors % 9 + 1) {
    const size_t count = std::min(vectors * stages.width, xs.size() - i);
    Aligned<float> run(static_cast<int64_t>(vectors) * stages.width, 0.0f);
    std::copy_n(xs.begin() + i, count, run.data());
    function(run.data(), run.size());
    ys.insert(ys.end(), run.data(), run.data() + count);
    i += count;
  }
  return ys;
}

// Every 2^step-th of all floats from `first` to `last`, which have the same sign.
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

void CheckExp2(const StageTable& stages) {
  std::vector<float> xs = Sweep(-0.0f, -126.0f, 12);
  const std::vector<float> above = Sweep(0.0f, 127.0f, 14);
  xs.insert(xs.end(), above.begin(), above.end());
  const std::vector<float> ys = Apply(stages, stages.exp2, xs);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double expected = std::exp2(double{xs[i]});
    int exponent;
    std::frexp(expected, &exponent);
    const double error = std::fabs(ys[i] - expected) / std::ldexp(kEpsilon, exponent - 1);
    if (!(error <= 2.0)) Expect(false, stages, "exp2(" + std::to_string(xs[i]) + ") is " + std::to_string(ys[i]));
    worst = std::max(worst, error);
  }
  std::printf("  exp2       %.2f units in the last place\n", worst);
  const std::vector<float> special = Apply(stages, stages.exp2, {-126.5f, -1e10f, -kInfinity, -3e38f, 0.0f, kNaN});
  for (int i = 0; i < 4; ++i) Expect(special[i] == 0.0f, stages, "exp2 of a large negative number is not 0");
  Expect(special[4] == 1.0f, stages, "exp2(0) is not 1");
  Expect(std::isnan(special[5]), stages, "exp2(NaN) is a number");
}

void CheckGelu(const StageTable& stages, const char* name, void (*function)(float*, int64_t), double (*exact)(double)) {
  std::vector<float> xs = {0.0f, 1e-30f, 20.0f, 1e10f, 3e38f, kInfinity};
  for (float x : Sweep(1e-6f, 12.0f, 10)) xs.push_back(x);
  for (size_t i = 0, positive = xs.size(); i < positive; ++i) xs.push_back(-xs[i]);
  xs.back() = kNaN;
  const std::vector<float> ys = Apply(stages, function, xs);
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double x = xs[i];
    const std::string what = std::string(name) + "(" + std::to_string(x) + ") is " + std::to_string(ys[i]);
    if (std::isnan(x) || x == -kInfinity) {  // which 0 is multiplied with
      Expect(std::isnan(ys[i]), stages, what);
    } else if (std::fabs(x) > 6) {
      Expect(ys[i] == (x > 0 ? xs[i] : 0.0f), stages, what);
    } else {
      const double error = std::fabs(ys[i] - x * exact(x)) / std::max(1.0, std::fabs(x));
      Expect(error < 3e-7, stages, what);
      worst = std::max(worst, error);
    }
  }
  std::printf("  %-10s %.2g max(1, |x|)\n", name, worst);
}

void CheckRelu(const StageTable& stages) {
  const std::vector<float> ys = Apply(stages, stages.relu, {-1.0f, 2.5f, -0.0f, kInfinity, -kInfinity, kNaN});
  const float expected[] = {0.0f, 2.5f, 0.0f, kInfinity, 0.0f};
  for (int i = 0; i < 5; ++i) Expect(ys[i] == expected[i], stages, "relu");
  Expect(std::isnan(ys[5]), stages, "relu(NaN) is a number");
}

// One token: its mean far from 0, or one feature far from the others, as trained models have.
std::vector<float> Token(Random& random, int64_t features) {
  std::vector<float> x(static_cast<size_t>(features));
  const float mean = random() % 3 ? Normal(random) : 1000.0f * Normal(random);
  for (float& v : x) v = mean + Normal(random);
  if (random() % 2) x[random() % x.size()] = 100.0f * Normal(random);
  return x;
}

void CheckLayerNorm(Random& random, const StageTable& stages) {
  double worst = 0;
  for (int64_t features : {1, 2, 3, 31, 32, 33, 63, 64, 65, 97, 384, 768}) {
    for (int vectors = 1; vectors <= 9; vectors = vectors < 4 ? vectors + 1 : vectors + 5) {
      const int64_t stride = int64_t{vectors} * stages.width;
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
      stages.layer_norm(x.data(), features, stride, vectors, gamma.data(), beta.data(), epsilon, to);
      // The same token alone in a tile of one vector.
      const int64_t alone = static_cast<int64_t>(random() % static_cast<uint64_t>(stride)), w = stages.width;
      Aligned<float> one(features * w, 0.0f);
      for (int64_t k = 0; k < features; ++k) one[k * w + w - 1] = tokens[alone][k];
      stages.layer_norm(one.data(), features, w, 1, gamma.data(), beta.data(), epsilon, one.data());
      for (int64_t k = 0; k < features && alone != 1; ++k) {
        Expect(!std::memcmp(&one[k * w + w - 1], to + k * stride + alone, sizeof(float)), stages,
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
            Expect(std::isnan(got), stages, what + " lost a NaN");
            continue;
          }
          const double expected = (tokens[t][k] - mean) / deviation * gamma[k] + beta[k];
          // Rounding of the mean counts by the size of what it is the mean of; the rest by the size of what is added.
          const double unit = kEpsilon * (std::fabs(gamma[k]) * (size + std::fabs(tokens[t][k] - mean)) / deviation +
                                          std::fabs(beta[k]));
          const double error = std::fabs(got - expected) / unit;
          Expect(error <= 4.0, stages, what + ": off by " + std::to_string(error) + " units");
          worst = std::max(worst, error);
        }
      }
    }
  }
  std::printf("  layer_norm %.2f units of rounding\n", worst);
}

void CheckQuantize(Random& random, const StageTable& stages) {
  for (int64_t features : {1, 2, 3, 4, 5, 7, 8, 66, 768}) {
    for (int vectors : {1, 2, 3, 4, 7}) {
      const int64_t stride = int64_t{vectors} * stages.width, quads = (features + 3) / 4;
      const int offset = random() % 2 ? 128 : 0;
      Aligned<float> x(features * stride, 0.0f), most(stride, kNaN), inverse(stride, 0.0f);
      Aligned<uint8_t> q(quads * stride * 4, 77);
      for (int64_t i = 0; i < x.size(); ++i) x[i] = Normal(random);
      // Token 0 has many ties, 1 a NaN, 2 an infinity, 3 numbers beyond the range of integers.
      for (int64_t k = 0; k < features; ++k) x[k * stride] = 0.5f * static_cast<float>(k % 254) - 63.0f;
      x[1] = kNaN, x[2] = -kInfinity, x[3] = 1e20f, x[(features - 1) * stride + 3] = -1e20f;
      stages.absmax(x.data(), features, stride, vectors, most.data());
      for (int64_t t = 0; t < stride; ++t) {
        float expected = 0.0f;
        for (int64_t k = 0; k < features; ++k) expected = std::max(expected, std::fabs(x[k * stride + t]));
        Expect(t == 1 ? std::isnan(most[t]) : most[t] == expected, stages, "absmax");
        inverse[t] = t == 0 ? 1.0f : t == 3 ? 3.0f : 127.0f / std::max(expected, 1e-20f);
      }
      stages.quantize(x.data(), features, stride, vectors, inverse.data(), offset, q.data());
      for (int64_t k = 0; k < 4 * quads; ++k) {
        for (int64_t t = 0; t < stride; ++t) {
          const int got = offset ? q[(k / 4 * stride + t) * 4 + k % 4] - offset
                                 : static_cast<int8_t>(q[(k / 4 * stride + t) * 4 + k % 4]);
          const float scaled = k < features ? x[k * stride + t] * inverse[t] : 0.0f;
          if (std::isnan(scaled)) {
            Expect(got >= -127 && got <= 127, stages, "quantize: NaN is out of range");
          } else {
            const auto expected = static_cast<int>(std::nearbyint(std::min(127.0f, std::max(-127.0f, scaled))));
            Expect(got == expected, stages,
                   "quantize of " + std::to_string(scaled) + " is " + std::to_string(got) + ", feature " +
                       std::to_string(k) + " of " + std::to_string(features));
          }
        }
      }
    }
  }
}

void CheckRows(Random& random, const StageTable& stages) {
  for (int64_t features : {1, 2, 3, 4, 5, 15, 16, 17, 40, 384}) {
    for (int vectors : {1, 2, 3, 4, 5}) {
      const int64_t stride = int64_t{vectors} * stages.width;
      for (int64_t tokens : {int64_t{1}, stages.width - int64_t{1}, stride - 3, stride - 1, stride}) {
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
        stages.gather_rows(sources.data(), tokens, features, vectors, xt.data());
        for (int64_t i = 0; i < xt.size(); ++i) {
          const int64_t t = i % stride;
          Expect(xt[i] == (t < tokens ? from[t][i / stride] : 0.0f), stages, "gather_rows");
          if (t >= tokens) xt[i] = kNaN;  // must not be needed on the way back
        }
        stages.scatter_rows(xt.data(), stride, tokens, features, targets.data());
        for (int64_t t = 0; t < tokens; ++t) {
          Expect(!std::memcmp(from[t].get(), to[t].get(), static_cast<size_t>(features) * sizeof(float)), stages,
                 "scatter_rows");
        }
      }
    }
  }
}

// Q, K and V of one head of one sequence, token by token, and the result.
struct Sequence {
  int64_t tokens, head_size;
  std::vector<float> q, k, v, out;
};

// Runs attention with the sequence `before` lanes into tiles of `vectors` vectors; all inputs of others are NaN.
void Attend(const StageTable& stages, int vectors, int64_t before, float scale, Sequence* s) {
  const int64_t tile = int64_t{vectors} * stages.width, d = s->head_size;
  const int64_t tiles = (before + s->tokens + tile - 1) / tile;
  const float others = 7777.0f;
  Aligned<float> q(tiles * d * tile, kNaN), k(q.size(), kNaN), v(q.size(), kNaN), out(q.size(), others);
  const auto at = [&](int64_t t, int64_t f) { return ((before + t) / tile * d + f) * tile + (before + t) % tile; };
  for (int64_t t = 0; t < s->tokens; ++t) {
    for (int64_t f = 0; f < d; ++f) {
      q[at(t, f)] = s->q[t * d + f], k[at(t, f)] = s->k[t * d + f], v[at(t, f)] = s->v[t * d + f];
    }
  }
  std::vector<KeySpan> spans;
  for (int64_t t = 0; t < s->tokens; t += spans.back().tokens) {
    const int64_t left = std::min(s->tokens - t, tile - (before + t) % tile);
    spans.push_back({k.data() + at(t, 0), v.data() + at(t, 0), tile, left});
  }
  for (int64_t t = 0; t < s->tokens;) {
    const int64_t lane = (before + t) % tile, here = std::min(s->tokens - t, tile - lane);
    // Whole vectors of other sequences may be left out or not.
    const int64_t skip = before % 2 ? lane / stages.width * stages.width : 0;
    Aligned<float> scratch(stages.attention_scratch(d), kNaN);
    AttentionArgs args{};
    args.q = q.data() + at(t, 0) - lane + skip;
    args.q_stride = args.out_stride = tile;
    args.vectors = static_cast<int>((lane + here + stages.width - 1) / stages.width - skip / stages.width);
    args.first_lane = lane - skip;
    args.end_lane = lane - skip + here;
    args.spans = spans.data();
    args.span_count = static_cast<int>(spans.size());
    args.head_size = d;
    args.scale = scale;
    args.out = out.data() + at(t, 0) - lane + skip;
    args.scratch = scratch.data();
    stages.attention(args);
    t += here;
  }
  s->out.assign(static_cast<size_t>(s->tokens * d), 0.0f);
  for (int64_t t = 0; t < s->tokens; ++t) {
    for (int64_t f = 0; f < d; ++f) {
      s->out[t * d + f] = out[at(t, f)];
      out[at(t, f)] = others;
    }
  }
  for (int64_t i = 0; i < out.size(); ++i) Expect(out[i] == others, stages, "attention wrote into another sequence");
}

// Returns the greatest error in units of rounding.
double CompareAttention(const StageTable& stages, const Sequence& s, double scale) {
  const int64_t n = s.tokens, d = s.head_size;
  double worst = 0;
  std::vector<double> p(static_cast<size_t>(n));
  // A few queries of long sequences; under an emulator all would take minutes.
  for (int64_t i = 0; i < n; i += 1 + n / 40) {
    double most = -HUGE_VAL, total = 0, magnitude = 0;
    for (int64_t j = 0; j < n; ++j) {
      double score = 0, size = 0;
      for (int64_t f = 0; f < d; ++f) {
        const double term = scale * s.q[i * d + f] * s.k[j * d + f];
        score += term, size += std::fabs(term);
      }
      p[j] = score, most = std::max(most, score), magnitude = std::max(magnitude, size);
    }
    for (double& x : p) total += x = std::exp(x - most);
    for (int64_t f = 0; f < d; ++f) {
      double expected = 0, size = 0;
      for (int64_t j = 0; j < n; ++j) {
        expected += p[j] / total * s.v[j * d + f], size += p[j] / total * std::fabs(s.v[j * d + f]);
      }
      // A score is off by a few units of the terms it sums; so is, relatively, its exponential.
      const double error = std::fabs(s.out[i * d + f] - expected) / (kEpsilon * size * (2 + magnitude) + 1e-38);
      Expect(error <= 4.0, stages,
             "attention over " + std::to_string(n) + " keys, head size " + std::to_string(d) + ": off by " +
                 std::to_string(error) + " units");
      worst = std::max(worst, error);
    }
  }
  return worst;
}

void CheckAttention(Random& random, const StageTable& stages) {
  double worst = 0;
  const int64_t sizes[] = {1, 2, 3, 7, 8, 12, 13, 31, 32, 33, 64, 65, 100, 128};
  size_t turn = 0;
  for (int64_t n : {1,  2,  3,   5,   6,   7,   11,  15,  16,  17,  31,  32,  33,  63,
                    64, 65, 100, 127, 128, 129, 255, 256, 257, 383, 511, 512, 513, 600}) {
    for (int times = n < 200 ? 3 : 1; times > 0; --times) {
      Sequence s{n, sizes[turn++ % (sizeof sizes / sizeof *sizes)], {}, {}, {}, {}};
      const size_t count = static_cast<size_t>(n * s.head_size);
      // Sometimes scores of hundreds, where a softmax that is not shifted overflows, growing from block to block.
      const float wide = random() % 3 == 0 ? 12.0f : 1.0f;
      for (size_t i = 0; i < count; ++i) {
        s.q.push_back(wide * Normal(random));
        s.k.push_back(wide * Normal(random) * (1.0f + static_cast<float>(i) / static_cast<float>(count)));
        s.v.push_back(Normal(random));
      }
      const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_size));
      Attend(stages, 4, 0, scale, &s);
      worst = std::max(worst, CompareAttention(stages, s, scale));
      const std::vector<float> first = s.out;
      for (int vectors : {1, 2, 3, 4, 5}) {
        Attend(stages, vectors, static_cast<int64_t>(random() % 100), scale, &s);
        Expect(!std::memcmp(first.data(), s.out.data(), count * sizeof(float)), stages,
               "attention over " + std::to_string(n) + " keys depends on the place");
      }
    }
  }
  std::printf("  attention  %.2f units of rounding\n", worst);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1;
  if (argc == 3 && !std::strcmp(argv[1], "--seed")) seed = std::strtoull(argv[2], nullptr, 10);
  for (int i = 0; i < aerogel::kIsaCount; ++i) {
    const aerogel::Isa& isa = aerogel::IsaAt(i);
    std::printf("%-10s %s\n", isa.name, *isa.reason ? isa.reason : "tested");
    if (*isa.reason) continue;
    Random random(seed);
    const StageTable& stages = *isa.kernels->stages;
    CheckExp2(stages);
    CheckGelu(stages, "gelu", stages.gelu, [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); });
    CheckGelu(stages, "gelu_tanh", stages.gelu_tanh, [](double x) {
      return 0.5 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    });
    CheckRelu(stages);
    CheckLayerNorm(random, stages);
    CheckQuantize(random, stages);
    CheckRows(random, stages);
    CheckAttention(random, stages);
  }
  std::printf("%s, seed %llu\n", failures ? "FAILED" : "passed", static_cast<unsigned long long>(seed));
  return failures != 0;
}
