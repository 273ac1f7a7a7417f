// Attention's products on pairs of bfloat16. Included by attention.cc, inside of its namespace.
//
// q and k are rounded and packed as pairs of neighbouring features, p and v as pairs of neighbouring keys: one
// instruction multiplies both numbers of a pair and adds both products to a float. A pair is as wide as a float, so the
// loops are those of floats, half as long. K and V of a block are packed again for every tile of queries, a sixteenth
// of the work where a tile has 64.
#pragma once

// Of each lane, two numbers rounded to bfloat16: `low` in the lower half of 32 bits, `high` in the upper.
inline Vec Pair(Vec low, Vec high) {
  alignas(64) static constexpr int16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both));
}

// The lanes of a vector that hold the first of `count` numbers.
inline __mmask16 LanesOf(int64_t count) { return static_cast<__mmask16>(count < kWidth ? (1u << count) - 1 : 0xffffu); }

// x [features][stride] as pairs of features, out [ceil(features / 2)][out_stride]; an odd last one is paired with 0.
inline void PairFeatures(const float* x, int64_t stride, int64_t features, int64_t lanes, float* out,
                         int64_t out_stride) {
  for (int64_t f = 0; f < features; f += 2, out += out_stride) {
    const float* const row = x + f * stride;
    for (int64_t t = 0; t < lanes; t += kWidth) {
      const __mmask16 here = LanesOf(lanes - t);
      const Vec high = f + 1 < features ? _mm512_maskz_loadu_ps(here, row + stride + t) : Set(0.0f);
      _mm512_mask_storeu_ps(out + t, here, Pair(_mm512_maskz_loadu_ps(here, row + t), high));
    }
  }
}

// x [features][stride] rounded to bfloat16, out [features][out_stride].
inline void Round(const float* x, int64_t stride, int64_t features, int64_t lanes, uint16_t* out, int64_t out_stride) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t t = 0; t < lanes; t += kWidth) {
      const __mmask16 here = LanesOf(lanes - t);
      const auto rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(here, x + f * stride + t));
      _mm256_mask_storeu_epi16(out + f * out_stride + t, here, rounded);
    }
  }
}

// As Singles.
template <int V>
class Pairs {
 public:
  static constexpr int64_t kBlock = 128;  // what is packed of it should stay in the first-level cache
  static int64_t Scratch(int64_t head_size) {
    const int64_t pairs = (head_size + 1) / 2;
    return pairs * (V * kWidth + kBlock) + head_size * kBlock / 2;
  }

  Pairs(const AttentionArgs& args, int64_t lane, float* scratch)
      : args_(args),
        pairs_((args.head_size + 1) / 2),
        q_(scratch),
        k_(q_ + pairs_ * V * kWidth),
        v_(reinterpret_cast<uint16_t*>(k_ + pairs_ * kBlock)) {
    PairFeatures(args.q + lane, args.q_stride, args.head_size, V * kWidth, q_, V * kWidth);
  }

  int64_t Score(Keys* keys, float* s, Vec* most) {
    KeySpan piece;
    for (count_ = 0; keys->Next(kBlock - count_, &piece); count_ += piece.tokens) {
      PairFeatures(piece.k, piece.stride, args_.head_size, piece.tokens, k_ + count_, kBlock);
      Round(piece.v, piece.stride, args_.head_size, piece.tokens, v_ + count_, kBlock);
    }
    if (count_ % 2) {
      for (int64_t f = 0; f < args_.head_size; ++f) v_[f * kBlock + count_] = 0;
    }
    ForPieces(HeightsOf<V>(), 0, count_, Scores<V, Pairs>{k_, kBlock, q_, V * kWidth, pairs_, s, most});
    return count_;
  }

  void Exponentials(float* s, Vec factor, const Vec* shift, Vec* sum) const {
    for (int64_t j = 0; j < count_; j += 2) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
        const float* const at = s + (j * V + v) * kWidth;
        const Vec low = Exp2(AEROGEL_ISA::MulAdd(Load(at), factor, shift[v]));
        Vec high = Set(0.0f);
        if (j + 1 < count_) high = Exp2(AEROGEL_ISA::MulAdd(Load(at + V * kWidth), factor, shift[v]));
        sum[v] = Add(sum[v], Add(low, high));
        Store(s + (j / 2 * V + v) * kWidth, Pair(low, high));
      }
    }
  }

  void Output(const float* p, const Vec* again, float* o) const {
    const KeySpan packed = {nullptr, reinterpret_cast<const float*>(v_), kBlock / 2, (count_ + 1) / 2};
    ForPieces(HeightsOf<V>(), 0, args_.head_size, Outputs<V, Pairs>{Keys(&packed, 1), packed.tokens, p, again, o});
  }

  static Vec MulAdd(Vec a, Vec b, Vec sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

 private:
  const AttentionArgs& args_;
  int64_t pairs_;
  float* q_;     // [pairs][V * kWidth]
  float* k_;     // [pairs][kBlock]
  uint16_t* v_;  // [head_size][kBlock]
  int64_t count_ = 0;
};
