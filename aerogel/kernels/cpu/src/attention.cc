// Attention of one head (see stages.h). Compiled once per instruction set, as linear.cc is.
//
// Both products keep a block of sums in registers: a vector of queries meets one number of K or of V at a time. Softmax
// runs down the keys, so that it needs no sums across a vector. Keys are taken in blocks, which bounds the scratch; a
// new block rescales what was summed so far by e^(old maximum - new maximum). Blocks are counted from the sequence's
// first key, and every sum runs in the order of keys or features: nothing depends on where the sequence lies.
#include "exp2.h"
#include "simd.h"
#include "stages.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

constexpr int64_t kKeys = 256;  // of a block

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

// s[j][i] = sum_f k[f][j] q[f][i], and the greatest of them so far.
template <int V>
struct Scores {
  const float* k;
  int64_t k_stride;
  const float* q;
  int64_t q_stride;
  int64_t head_size;
  float* s;
  Vec* most;  // [V]

  template <int H>
  __attribute__((noinline)) void Run(int64_t first) const {
    Vec sum[H][V];
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) { AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Set(0.0f); }
    const float* kf = k + first;
    const float* qf = q;
    for (int64_t f = 0; f < head_size; ++f, kf += k_stride, qf += q_stride) {
      Vec x[V];
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) x[v] = Load(qf + v * kWidth);
      AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
        const Vec key = Set(kf[h]);
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = MulAdd(key, x[v], sum[h][v]);
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
template <int V>
struct Outputs {
  Keys block;
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
    Keys keys = block;
    KeySpan piece;
    const float* pj = p;
    for (int64_t left = kKeys; keys.Next(left, &piece); left -= piece.tokens) {
      const float* values = piece.v + first * piece.stride;
      for (const float* end = values + piece.tokens; values < end; ++values, pj += V * kWidth) {
        Vec x[V];
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) x[v] = Load(pj + v * kWidth);
        AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
          const Vec value = Set(values[h * piece.stride]);
          AEROGEL_UNROLL for (int v = 0; v < V; ++v) sum[h][v] = MulAdd(value, x[v], sum[h][v]);
        }
      }
    }
    AEROGEL_UNROLL for (int h = 0; h < H; ++h) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) Store(to + (h * V + v) * kWidth, sum[h][v]);
    }
  }
};

// The queries of V vectors, of which the first begins at lane `lane`.
template <int V>
void Queries(const AttentionArgs& args, int64_t lane) {
  float* s = args.scratch;  // [kKeys][V * kWidth], scores and then p
  float* o = s + kKeys * V * kWidth;
  const float factor = args.scale * 1.44269504f;  // e^x = 2^(x log2(e))
  Vec most[V], sum[V], again[V];
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    most[v] = Set(-__builtin_inff());
    sum[v] = Set(0.0f);
  }
  for (int64_t i = 0; i < args.head_size * V; ++i) Store(o + i * kWidth, Set(0.0f));

  Keys keys(args.spans, args.span_count);
  for (;;) {
    const Keys block = keys;
    KeySpan piece;
    int64_t count = 0;
    Vec before[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) before[v] = most[v];
    while (keys.Next(kKeys - count, &piece)) {
      const Scores<V> scores = {piece.k,        piece.stride,           args.q + lane, args.q_stride,
                                args.head_size, s + count * V * kWidth, most};
      ForPieces(HeightsOf<V>(), 0, piece.tokens, scores);
      count += piece.tokens;
    }
    if (count == 0) break;
    Vec shift[V];
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      shift[v] = Mul(most[v], Set(-factor));
      again[v] = Exp2(MulAdd(before[v], Set(factor), shift[v]));
      sum[v] = Mul(sum[v], again[v]);
    }
    for (int64_t j = 0; j < count; ++j) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
        float* at = s + (j * V + v) * kWidth;
        const Vec p = Exp2(MulAdd(Load(at), Set(factor), shift[v]));
        sum[v] = Add(sum[v], p);
        Store(at, p);
      }
    }
    ForPieces(HeightsOf<V>(), 0, args.head_size, Outputs<V>{block, s, again, o});
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

template <int V>
void Queries(const AttentionArgs& args, int64_t lane, int64_t vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return Queries<V - 1>(args, lane, vectors);
  }
  Queries<V>(args, lane);
}

}  // namespace

int64_t AttentionScratch(int64_t head_size) { return (kKeys + head_size) * kGroup * kWidth; }

void Attention(const AttentionArgs& args) {
  // Vectors without a query of the sequence's are passed over.
  const int64_t begin = args.first_lane / kWidth;
  const int64_t end = (args.end_lane + kWidth - 1) / kWidth;
  for (int64_t i = begin; i < end; i += kGroup) Queries<kGroup>(args, i * kWidth, end - i);
}

}  // namespace AEROGEL_ISA
}  // namespace aerogel
