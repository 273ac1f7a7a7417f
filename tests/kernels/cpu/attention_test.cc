// Compares attention (attention.h) with float64, for every instruction set of this machine. Inputs of other sequences
// are NaN, and outputs of other sequences must not change.
//
//   attention_test [--seed N]
#include <cmath>

#include "isa_check.h"

namespace {

using namespace check;
using aerogel::AttentionArgs;
using aerogel::AttentionKernel;
using aerogel::KeySpan;

// Q, K, V and the result of one head of one sequence, token-major.
struct Sequence {
  int64_t tokens, head_size;
  std::vector<float> q, k, v, out;
};

// Runs attention on a sequence that begins `before` lanes into tiles of `vectors` vectors. All other inputs are NaN.
void Attend(const KernelTable& kernels, const AttentionKernel& attention, int vectors, int64_t before, float scale,
            Sequence* s) {
  const int64_t tile = int64_t{vectors} * kernels.width, d = s->head_size;
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
    // Whole vectors of other sequences may be skipped.
    const int64_t skip = before % 2 ? lane / kernels.width * kernels.width : 0;
    Aligned<float> scratch(attention.scratch(d), kNaN);
    AttentionArgs args{};
    args.q = q.data() + at(t, 0) - lane + skip;
    args.q_stride = args.out_stride = tile;
    args.vectors = static_cast<int>((lane + here + kernels.width - 1) / kernels.width - skip / kernels.width);
    args.first_lane = lane - skip;
    args.end_lane = lane - skip + here;
    args.spans = spans.data();
    args.span_count = static_cast<int>(spans.size());
    args.head_size = d;
    args.scale = scale;
    args.out = out.data() + at(t, 0) - lane + skip;
    args.scratch = scratch.data();
    attention.run(args);
    t += here;
  }
  s->out.assign(static_cast<size_t>(s->tokens * d), 0.0f);
  for (int64_t t = 0; t < s->tokens; ++t) {
    for (int64_t f = 0; f < d; ++f) {
      s->out[t * d + f] = out[at(t, f)];
      out[at(t, f)] = others;
    }
  }
  for (int64_t i = 0; i < out.size(); ++i) Expect(out[i] == others, kernels, "attention wrote into another sequence");
}

// Returns the largest error in units of float epsilon.
double CompareAttention(const KernelTable& kernels, double unit, const Sequence& s, double scale) {
  const int64_t n = s.tokens, d = s.head_size;
  double worst = 0;
  std::vector<double> p(static_cast<size_t>(n));
  // For long sequences test only a few queries; under an emulator all of them would take minutes.
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
      // The error of a score is a few epsilon of its terms; so is the relative error of its exponential.
      const double error = std::fabs(s.out[i * d + f] - expected) / (unit * size * (2 + magnitude) + 1e-38);
      Expect(error <= 4.0, kernels,
             "attention over " + std::to_string(n) + " keys, head size " + std::to_string(d) + ": off by " +
                 std::to_string(error) + " units");
      worst = std::max(worst, error);
    }
  }
  return worst;
}

// unit: epsilon of the number format.
void CheckKernel(Random& random, const KernelTable& kernels, const AttentionKernel& attention, double unit) {
  double worst = 0;
  const int64_t sizes[] = {1, 2, 3, 7, 8, 12, 13, 31, 32, 33, 64, 65, 100, 128};
  size_t turn = 0;
  for (int64_t n : {1,  2,  3,   5,   6,   7,   11,  15,  16,  17,  31,  32,  33,  63,
                    64, 65, 100, 127, 128, 129, 255, 256, 257, 383, 511, 512, 513, 600}) {
    for (int times = n < 200 ? 3 : 1; times > 0; --times) {
      Sequence s{n, sizes[turn++ % (sizeof sizes / sizeof *sizes)], {}, {}, {}, {}};
      const size_t count = static_cast<size_t>(n * s.head_size);
      // Sometimes scores of hundreds, which grow from block to block. A softmax without a shift would overflow.
      const float wide = random() % 3 == 0 ? 12.0f : 1.0f;
      for (size_t i = 0; i < count; ++i) {
        s.q.push_back(wide * Normal(random));
        s.k.push_back(wide * Normal(random) * (1.0f + static_cast<float>(i) / static_cast<float>(count)));
        s.v.push_back(Normal(random));
      }
      const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_size));
      Attend(kernels, attention, 4, 0, scale, &s);
      worst = std::max(worst, CompareAttention(kernels, unit, s, scale));
      const std::vector<float> first = s.out;
      for (int vectors : {1, 2, 3, 4, 5}) {
        Attend(kernels, attention, vectors, static_cast<int64_t>(random() % 100), scale, &s);
        Expect(!std::memcmp(first.data(), s.out.data(), count * sizeof(float)), kernels,
               "attention over " + std::to_string(n) + " keys depends on the place");
      }
    }
  }
  std::printf("  attention  %.2f units of %.1e\n", worst, unit);
}

void CheckAttention(Random& random, const KernelTable& kernels) {
  CheckKernel(random, kernels, kernels.attention->fp32, kEpsilon);
  // bfloat16 has eight bits of precision; the rounding error is half of the last one.
  if (kernels.attention->bf16.run) CheckKernel(random, kernels, kernels.attention->bf16, 0x1p-9);
}

}  // namespace

int main(int argc, char** argv) { return ForIsas(argc, argv, CheckAttention); }
