// Attention of one head, see attention.h. Compiled once per instruction set, see isa_list.h.
//
// Both products keep a block of sums in registers: a vector of queries meets one number of K or of V at a time. Softmax
// runs down the keys, so it needs no sums across a vector. Keys are taken in blocks, which bounds the scratch memory; a
// new block rescales the sums so far by e^(old maximum - new maximum). Blocks are counted from the sequence's first
// key, and every sum runs in the order of keys or features: the result does not depend on where the sequence lies.
//
// Template parameters: V is the number of vectors of queries processed together, H the rows of a register block,
// Products the arithmetic: Fp32Products, or Bf16Products where the instruction set multiplies pairs of bfloat16, at
// twice the speed.
#include "attention.h"

#include "exp2.h"
#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

// Calls tile.Run<H>(i) for consecutive pieces [i, i + H) of [first, count), the highest H first.
template <typename Tile>
inline void ForPieces(Heights<>, int64_t, int64_t, const Tile&) {}
template <int kHeight, int... kSmaller, typename Tile>
inline void ForPieces(Heights<kHeight, kSmaller...>, int64_t first, int64_t count, const Tile& tile) {
  for (; first + kHeight <= count; first += kHeight) tile.template Run<kHeight>(first);
  ForPieces(Heights<kSmaller...>(), first, count, tile);
}

// s[j][i] = sum_f k[f][j] q[f][i] for H keys j, and max[i], the greatest score so far. Element::MulAdd multiplies and
// adds: floats, or pairs of bfloat16.
template <int V, typename Element>
struct Scores {
  const float* k;
  int64_t k_stride;
  const float* q;
  int64_t q_stride;
  int64_t features;
  float* s;
  Vec* max;  // [V]

  template <int H>
  __attribute__((noinline)) void Run(int64_t first) const {
    Vec sum[H][V];
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) { AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Set(0.0f); }
    const float* kf = k + first;
    const float* qf = q;
    for (int64_t f = 0; f < features; ++f, kf += k_stride, qf += q_stride) {
      Vec x[V];
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) x[v] = Load(qf + v * kWidth);
      AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
        const Vec key = Set(kf[h]);
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Element::MulAdd(key, x[v], sum[h][v]);
      }
    }
    float* to = s + first * V * kWidth;
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      Vec greatest = max[v];
      AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
        greatest = Max(greatest, sum[h][v]);
        Store(to + (h * V + v) * kWidth, sum[h][v]);
      }
      max[v] = greatest;
    }
  }
};

// Walks the keys of all spans, in pieces that are adjacent in memory.
class Keys {
 public:
  Keys(const KeySpan* spans, int count) : span_(spans), end_(spans + count) {}

  // Sets `piece` to the next keys, at most `limit` of them, and returns their number; 0 at the end.
  int64_t Next(int64_t limit, KeySpan* piece) {
    if (span_ == end_ || limit == 0) return 0;
    const int64_t left = span_->tokens - from_;
    *piece = {span_->k + from_, span_->v + from_, span_->stride, left < limit ? left : limit};
    from_ += piece->tokens;
    if (from_ == span_->tokens) {
      ++span_;
      from_ = 0;
    }
    return piece->tokens;
  }

 private:
  const KeySpan* span_;
  const KeySpan* end_;
  int64_t from_ = 0;
};

// o[f][i] = rescale[i] o[f][i] + sum_j v[f][j] p[j][i] for H features f, over one block of keys.
template <int V, typename Element>
struct Outputs {
  Keys block;
  int64_t keys;  // of the block
  const float* p;
  const Vec* rescale;  // [V]
  float* o;

  template <int H>
  __attribute__((noinline)) void Run(int64_t first) const {
    float* to = o + first * V * kWidth;
    Vec sum[H][V];
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Mul(Load(to + (h * V + v) * kWidth), rescale[v]);
    }
    Keys rest = block;
    KeySpan piece;
    const float* pj = p;
    for (int64_t left = keys; rest.Next(left, &piece); left -= piece.tokens) {
      const float* values = piece.v + first * piece.stride;
      for (const float* end = values + piece.tokens; values < end; ++values, pj += V * kWidth) {
        Vec x[V];
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) x[v] = Load(pj + v * kWidth);
        AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
          const Vec value = Set(values[h * piece.stride]);
          AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Element::MulAdd(value, x[v], sum[h][v]);
        }
      }
    }
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) Store(to + (h * V + v) * kWidth, sum[h][v]);
    }
  }
};

// Both products, and the exponentials between them, on floats that are read where they lie.
template <int V>
class Fp32Products {
 public:
  static constexpr int64_t kBlock = 256;  // keys
  // Floats of scratch memory besides scores and sums.
  static int64_t Scratch(int64_t) { return 0; }

  Fp32Products(const AttentionArgs& args, int64_t lane, float*) : args_(args), lane_(lane) {}

  // s[j][i] and max[i] of the next block of keys; returns their number, 0 at the end.
  int64_t Score(Keys* keys, float* s, Vec* max) {
    block_ = *keys;
    KeySpan piece;
    for (count_ = 0; keys->Next(kBlock - count_, &piece); count_ += piece.tokens) {
      const Scores<V, Fp32Products> scores = {
          piece.k, piece.stride, args_.q + lane_, args_.q_stride, args_.head_size, s + count_ * V * kWidth, max};
      ForPieces(HeightsOf<V>(), 0, piece.tokens, scores);
    }
    return count_;
  }

  // Replaces the scores of the block by p = 2^(factor s + shift), and adds p to `sum`.
  void Exponentials(float* s, Vec factor, const Vec* shift, Vec* sum) const {
    for (int64_t j = 0; j < count_; ++j) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
        float* at = s + (j * V + v) * kWidth;
        const Vec p = Exp2(MulAdd(Load(at), factor, shift[v]));
        sum[v] = Add(sum[v], p);
        Store(at, p);
      }
    }
  }

  // Adds the block to the output, see Outputs.
  void Output(const float* p, const Vec* rescale, float* o) const {
    ForPieces(HeightsOf<V>(), 0, args_.head_size, Outputs<V, Fp32Products>{block_, count_, p, rescale, o});
  }

  static Vec MulAdd(Vec a, Vec b, Vec sum) { return AEROGEL_ISA::MulAdd(a, b, sum); }

 private:
  const AttentionArgs& args_;
  int64_t lane_;
  Keys block_{nullptr, 0};
  int64_t count_ = 0;
};

#if defined(AEROGEL_HAS_BF16)
#include "bf16_products.h"
#endif

// Attention of V vectors of queries, from lane `lane` on.
template <int V, template <int> typename Products>
void Queries(const AttentionArgs& args, int64_t lane) {
  constexpr int64_t kBlock = Products<V>::kBlock;
  float* s = args.scratch;             // [kBlock][V * kWidth], scores and then p
  float* o = s + kBlock * V * kWidth;  // [head_size][V * kWidth]
  Products<V> products(args, lane, o + args.head_size * V * kWidth);
  const float scale = args.scale * 1.44269504f;  // e^x = 2^(x log2(e))
  const Vec factor = Set(scale);
  Vec max[V], sum[V], rescale[V];
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    max[v] = Set(-__builtin_inff());
    sum[v] = Set(0.0f);
  }
  for (int64_t i = 0; i < args.head_size * V; ++i) Store(o + i * kWidth, Set(0.0f));

  Keys keys(args.spans, args.span_count);
  for (;;) {
    Vec before[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) before[v] = max[v];
    if (products.Score(&keys, s, max) == 0) break;
    Vec shift[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      shift[v] = Mul(max[v], Set(-scale));
      rescale[v] = Exp2(MulAdd(before[v], factor, shift[v]));
      sum[v] = Mul(sum[v], rescale[v]);
    }
    products.Exponentials(s, factor, shift, sum);
    products.Output(s, rescale, o);
  }

  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    const Vec inv_sum = Div(Set(1.0f), sum[v]);
    const int64_t t = lane + v * kWidth;
    const int64_t first = args.first_lane > t ? args.first_lane - t : 0;
    const int64_t end = args.end_lane - t < kWidth ? args.end_lane - t : kWidth;
    for (int64_t f = 0; f < args.head_size; ++f) {
      const Vec y = Mul(Load(o + (f * V + v) * kWidth), inv_sum);
      if (end - first == kWidth) {
        Store(args.out + f * args.out_stride + t, y);
      } else {
        StoreLanes(args.out + f * args.out_stride + t, y, first, end);
      }
    }
  }
}

// The same of the first min(V, vectors) vectors.
template <int V, template <int> typename Products>
void Queries(const AttentionArgs& args, int64_t lane, int64_t vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return Queries<V - 1, Products>(args, lane, vectors);
  }
  Queries<V, Products>(args, lane);
}

template <template <int> typename Products>
void Attend(const AttentionArgs& args) {
  // Vectors without a query of the sequence are skipped.
  const int64_t begin = args.first_lane / kWidth;
  const int64_t end = (args.end_lane + kWidth - 1) / kWidth;
  for (int64_t i = begin; i < end; i += kQueryVectors) Queries<kQueryVectors, Products>(args, i * kWidth, end - i);
}

template <template <int> typename Products>
int64_t ScratchFor(int64_t head_size) {
  using Widest = Products<kQueryVectors>;
  return (Widest::kBlock + head_size) * kQueryVectors * kWidth + Widest::Scratch(head_size);
}

#if defined(AEROGEL_HAS_BF16)
constexpr AttentionKernel kBf16 = {Attend<Bf16Products>, ScratchFor<Bf16Products>};
#else
constexpr AttentionKernel kBf16 = {nullptr, nullptr};
#endif

}  // namespace

extern const AttentionTable kAttention;
const AttentionTable kAttention = {{Attend<Fp32Products>, ScratchFor<Fp32Products>}, kBf16};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
