// Attention's products on pairs of bfloat16. Included by attention.cc, inside its namespace; needs AEROGEL_HAS_BF16
// (simd.h).
//
// q and k are rounded and packed as pairs of neighbouring features, p and v as pairs of neighbouring keys: one
// instruction multiplies both numbers of a pair and adds both products to a float. A pair is as wide as a float, so the
// loops are those of floats, half as long. K and V of a block are packed again for every tile of queries, a sixteenth
// of the work where a tile has 64.
#pragma once

// x [features][stride] as pairs of features, out [ceil(features / 2)][out_stride]; an odd last one is paired with 0.
inline void PairFeatures(const float* x, int64_t stride, int64_t features, int64_t lanes, float* out,
                         int64_t out_stride) {
  for (int64_t f = 0; f < features; f += 2, out += out_stride) {
    const float* const row = x + f * stride;
    for (int64_t t = 0; t < lanes; t += kWidth) {
      const int64_t left = lanes - t;
      const Vec high = f + 1 < features ? LoadFirst(row + stride + t, left) : Set(0.0f);
      StoreFirst(out + t, PairBf16(LoadFirst(row + t, left), high), left);
    }
  }
}

// x [features][stride] rounded to bfloat16, out [features][out_stride].
inline void RoundBf16(const float* x, int64_t stride, int64_t features, int64_t lanes, uint16_t* out,
                      int64_t out_stride) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t t = 0; t < lanes; t += kWidth) {
      StoreFirstBf16(out + f * out_stride + t, LoadFirst(x + f * stride + t, lanes - t), lanes - t);
    }
  }
}

// As Fp32Products.
template <int V>
class Bf16Products {
 public:
  static constexpr int64_t kBlock = 128;       // keys: what is packed of them should stay in the first-level cache
  static int64_t Scratch(int64_t head_size) {  // for q_, k_ and v_
    const int64_t pairs = (head_size + 1) / 2;
    return pairs * (V * kWidth + kBlock) + head_size * kBlock / 2;
  }

  Bf16Products(const AttentionArgs& args, int64_t lane, float* scratch)
      : args_(args),
        pairs_((args.head_size + 1) / 2),
        q_(scratch),
        k_(q_ + pairs_ * V * kWidth),
        v_(reinterpret_cast<uint16_t*>(k_ + pairs_ * kBlock)) {
    PairFeatures(args.q + lane, args.q_stride, args.head_size, V * kWidth, q_, V * kWidth);
  }

  int64_t Score(Keys* keys, float* s, Vec* max) {
    KeySpan piece;
    for (count_ = 0; keys->Next(kBlock - count_, &piece); count_ += piece.tokens) {
      PairFeatures(piece.k, piece.stride, args_.head_size, piece.tokens, k_ + count_, kBlock);
      RoundBf16(piece.v, piece.stride, args_.head_size, piece.tokens, v_ + count_, kBlock);
    }
    if (count_ % 2) {
      for (int64_t f = 0; f < args_.head_size; ++f) v_[f * kBlock + count_] = 0;
    }
    ForPieces(HeightsOf<V>(), 0, count_, Scores<V, Bf16Products>{k_, kBlock, q_, V * kWidth, pairs_, s, max});
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
        Store(s + (j / 2 * V + v) * kWidth, PairBf16(low, high));
      }
    }
  }

  void Output(const float* p, const Vec* rescale, float* o) const {
    const KeySpan packed = {nullptr, reinterpret_cast<const float*>(v_), kBlock / 2, (count_ + 1) / 2};
    ForPieces(HeightsOf<V>(), 0, args_.head_size,
              Outputs<V, Bf16Products>{Keys(&packed, 1), packed.tokens, p, rescale, o});
  }

  static Vec MulAdd(Vec a, Vec b, Vec sum) { return MulAddBf16(a, b, sum); }

 private:
  const AttentionArgs& args_;
  int64_t pairs_;
  float* q_;     // [pairs][V * kWidth]
  float* k_;     // [pairs][kBlock]
  uint16_t* v_;  // [head_size][kBlock]
  int64_t count_ = 0;
};
