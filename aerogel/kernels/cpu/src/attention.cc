// Attention of one head (see stages.h). Compiled once per instruction set, as linear.cc is.
//
// Both products keep a block of sums in registers: a vector of queries meets one number of K or of V at a time. Softmax
// runs down the keys, so that it needs no sums across a vector. Keys are taken in blocks, which bounds the scratch; a
// new block rescales what was summed so far by e^(old maximum - new maximum). Blocks are counted from the sequence's
// first key, and every sum runs in the order of keys or features: nothing depends on where the sequence lies.
//
// Where the instruction set multiplies pairs of bfloat16 there is a second form, twice as fast: see pairs.h.
#include "exp2.h"
#include "simd.h"
#include "stages.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

// Vectors of queries taken together, and heights of the register blocks by number of vectors: as many sums as the
// registers hold, then what is left over.
template <int... kHeights>
struct Heights {};
template <int V>
struct HeightsOf;
#if defined(AEROGEL_SCALAR)
constexpr int kGroup = 1;
template <>
struct HeightsOf<1> : Heights<4, 1> {};
#elif defined(AEROGEL_AVX2)
constexpr int kGroup = 2;
template <>
struct HeightsOf<1> : Heights<10, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<6, 4, 2, 1> {};
#elif defined(AEROGEL_NEON)
constexpr int kGroup = 4;
template <>
struct HeightsOf<1> : Heights<16, 8, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<8, 4, 2, 1> {};
template <>
struct HeightsOf<3> : Heights<4, 2, 1> {};
template <>
struct HeightsOf<4> : Heights<4, 2, 1> {};
#else
constexpr int kGroup = 4;
template <>
struct HeightsOf<1> : Heights<16, 8, 4, 2, 1> {};
template <>
struct HeightsOf<2> : Heights<12, 8, 4, 2, 1> {};
template <>
struct HeightsOf<3> : Heights<8, 4, 2, 1> {};
template <>
struct HeightsOf<4> : Heights<6, 4, 2, 1> {};
#endif

// Calls tile.Run<height>(first) for pieces of [0, count).
template <typename Tile>
inline void ForPieces(Heights<>, int64_t, int64_t, const Tile&) {}
template <int kHeight, int... kSmaller, typename Tile>
inline void ForPieces(Heights<kHeight, kSmaller...>, int64_t first, int64_t count, const Tile& tile) {
  for (; first + kHeight <= count; first += kHeight) tile.template Run<kHeight>(first);
  ForPieces(Heights<kSmaller...>(), first, count, tile);
}

// s[j][i] = sum_f k[f][j] q[f][i], and the greatest of them so far. Element: what a product multiplies and adds.
template <int V, typename Element>
struct Scores {
  const float* k;
  int64_t k_stride;
  const float* q;
  int64_t q_stride;
  int64_t features;
  float* s;
  Vec* most;  // [V]

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
      Vec greatest = most[v];
      AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
        greatest = Max(greatest, sum[h][v]);
        Store(to + (h * V + v) * kWidth, sum[h][v]);
      }
      most[v] = greatest;
    }
  }
};

// Walks the keys of all spans, in pieces that lie beside each other.
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

// o[f][i] = again[i] o[f][i] + sum_j v[f][j] p[j][i] over one block of keys.
template <int V, typename Element>
struct Outputs {
  Keys block;
  int64_t keys;  // of the block
  const float* p;
  const Vec* again;  // [V]
  float* o;

  template <int H>
  __attribute__((noinline)) void Run(int64_t first) const {
    float* to = o + first * V * kWidth;
    Vec sum[H][V];
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Mul(Load(to + (h * V + v) * kWidth), again[v]);
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

// Both products on floats where they lie, and what lies between them.
template <int V>
class Singles {
 public:
  static constexpr int64_t kBlock = 256;  // keys
  static int64_t Scratch(int64_t) { return 0; }

  Singles(const AttentionArgs& args, int64_t lane, float*) : args_(args), lane_(lane) {}

  // Scores of the next block of keys; returns their number.
  int64_t Score(Keys* keys, float* s, Vec* most) {
    block_ = *keys;
    KeySpan piece;
    for (count_ = 0; keys->Next(kBlock - count_, &piece); count_ += piece.tokens) {
      const Scores<V, Singles> scores = {
          piece.k, piece.stride, args_.q + lane_, args_.q_stride, args_.head_size, s + count_ * V * kWidth, most};
      ForPieces(HeightsOf<V>(), 0, piece.tokens, scores);
    }
    return count_;
  }

  // Scores become p = 2^(factor s + shift), which is added to `sum`.
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

  void Output(const float* p, const Vec* again, float* o) const {
    ForPieces(HeightsOf<V>(), 0, args_.head_size, Outputs<V, Singles>{block_, count_, p, again, o});
  }

  static Vec MulAdd(Vec a, Vec b, Vec sum) { return AEROGEL_ISA::MulAdd(a, b, sum); }

 private:
  const AttentionArgs& args_;
  int64_t lane_;
  Keys block_{nullptr, 0};
  int64_t count_ = 0;
};

#if defined(AEROGEL_BF16)
#include "pairs.h"
#endif

// The queries of V vectors, of which the first begins at lane `lane`.
template <int V, template <int> typename Products>
void Queries(const AttentionArgs& args, int64_t lane) {
  constexpr int64_t kBlock = Products<V>::kBlock;
  float* s = args.scratch;  // [kBlock][V * kWidth], scores and then p
  float* o = s + kBlock * V * kWidth;
  Products<V> products(args, lane, o + args.head_size * V * kWidth);
  const float scale = args.scale * 1.44269504f;  // e^x = 2^(x log2(e))
  const Vec factor = Set(scale);
  Vec most[V], sum[V], again[V];
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    most[v] = Set(-__builtin_inff());
    sum[v] = Set(0.0f);
  }
  for (int64_t i = 0; i < args.head_size * V; ++i) Store(o + i * kWidth, Set(0.0f));

  Keys keys(args.spans, args.span_count);
  for (;;) {
    Vec before[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) before[v] = most[v];
    if (products.Score(&keys, s, most) == 0) break;
    Vec shift[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      shift[v] = Mul(most[v], Set(-scale));
      again[v] = Exp2(MulAdd(before[v], factor, shift[v]));
      sum[v] = Mul(sum[v], again[v]);
    }
    products.Exponentials(s, factor, shift, sum);
    products.Output(s, again, o);
  }

  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    const Vec share = Div(Set(1.0f), sum[v]);
    const int64_t t = lane + v * kWidth;
    const int64_t first = args.first_lane > t ? args.first_lane - t : 0;
    const int64_t end = args.end_lane - t < kWidth ? args.end_lane - t : kWidth;
    for (int64_t f = 0; f < args.head_size; ++f) {
      const Vec y = Mul(Load(o + (f * V + v) * kWidth), share);
      if (end - first == kWidth) {
        Store(args.out + f * args.out_stride + t, y);
      } else {
        StoreLanes(args.out + f * args.out_stride + t, y, first, end);
      }
    }
  }
}

template <int V, template <int> typename Products>
void Queries(const AttentionArgs& args, int64_t lane, int64_t vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return Queries<V - 1, Products>(args, lane, vectors);
  }
  Queries<V, Products>(args, lane);
}

template <template <int> typename Products>
void Attend(const AttentionArgs& args) {
  // Vectors without a query of the sequence's are passed over.
  const int64_t begin = args.first_lane / kWidth;
  const int64_t end = (args.end_lane + kWidth - 1) / kWidth;
  for (int64_t i = begin; i < end; i += kGroup) Queries<kGroup, Products>(args, i * kWidth, end - i);
}

template <template <int> typename Products>
int64_t ScratchFor(int64_t head_size) {
  using Widest = Products<kGroup>;
  return (Widest::kBlock + head_size) * kGroup * kWidth + Widest::Scratch(head_size);
}

}  // namespace

void Attention(const AttentionArgs& args) { Attend<Singles>(args); }
int64_t AttentionScratch(int64_t head_size) { return ScratchFor<Singles>(head_size); }
#if defined(AEROGEL_BF16)
void RoundedAttention(const AttentionArgs& args) { Attend<Pairs>(args); }
int64_t RoundedAttentionScratch(int64_t head_size) { return ScratchFor<Pairs>(head_size); }
#endif

}  // namespace AEROGEL_ISA
}  // namespace aerogel
