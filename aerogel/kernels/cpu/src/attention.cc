// Masked attention of one head (see stages.h). Compiled once per instruction set, as linear.cc is.
#include "math.h"
#include "simd.h"
#include "stages.h"

namespace aerogel {
namespace AEROGEL_ISA {

constexpr int64_t kKeys = 256;

int64_t AttentionScratch(int64_t head_size) { return (kKeys + head_size) * kWidth; }

void Attention(const AttentionArgs& args) {
  for (int64_t t = 0; t < args.vectors * kWidth; t += kWidth) {
    const int64_t first = args.first_lane > t ? args.first_lane - t : 0;
    const int64_t end = args.end_lane - t < kWidth ? args.end_lane - t : kWidth;
    if (first >= end) continue;
    Vec most = Set(-__builtin_inff()), sum = Set(0.0f);
    float* o = args.scratch;
    for (int64_t f = 0; f < args.head_size; ++f) Store(o + f * kWidth, Set(0.0f));
    for (int s = 0; s < args.span_count; ++s) {
      const KeySpan& span = args.spans[s];
      for (int64_t j = 0; j < span.tokens; ++j) {
        Vec score = Set(0.0f);
        for (int64_t f = 0; f < args.head_size; ++f) {
          score = MulAdd(Set(span.k[f * span.stride + j]), Load(args.q + f * args.q_stride + t), score);
        }
        score = Mul(score, Set(args.scale));
        const Vec more = Max(most, score);
        const Vec again = Exp(Sub(most, more));
        const Vec p = Exp(Sub(score, more));
        most = more;
        sum = MulAdd(sum, again, p);
        for (int64_t f = 0; f < args.head_size; ++f) {
          Store(o + f * kWidth, MulAdd(p, Set(span.v[f * span.stride + j]), Mul(again, Load(o + f * kWidth))));
        }
      }
    }
    for (int64_t f = 0; f < args.head_size; ++f) {
      StoreLanes(args.out + f * args.out_stride + t, Div(Load(o + f * kWidth), sum), first, end);
    }
  }
}

}  // namespace AEROGEL_ISA
}  // namespace aerogel
