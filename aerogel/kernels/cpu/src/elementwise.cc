// What an encoder computes on each token or number alone, see elementwise.h. Compiled once per instruction set, see
// isa_list.h.
#include "elementwise.h"

#include "exp2.h"
#include "gelu.h"
#include "simd.h"

namespace aerogel {
namespace AEROGEL_ISA {

namespace {

void Exp2All(float* x, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) Store(x + i, Exp2(Load(x + i)));
}

template <typename Form>
void GeluAll(float* x, int64_t count) {
  constexpr int kAtOnce = 4;  // vectors: enough independent chains to fill the units
  int64_t i = 0;
  for (; i + kAtOnce * kWidth <= count; i += kAtOnce * kWidth) {
    Vec v[kAtOnce];
    AEROGEL_UNROLL for (int j = 0; j < kAtOnce; ++j) v[j] = Load(x + i + j * kWidth);
    Gelu<Form>(v);
    AEROGEL_UNROLL for (int j = 0; j < kAtOnce; ++j) Store(x + i + j * kWidth, v[j]);
  }
  for (; i < count; i += kWidth) {
    Vec v[1] = {Load(x + i)};
    Gelu<Form>(v);
    Store(x + i, v[0]);
  }
}

void Relu(float* x, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) Store(x + i, Max(Set(0.0f), Load(x + i)));
}

// LayerNorm of V vectors of tokens. Features are read in blocks that stay in the first-level cache for a second pass:
// a block's mean and its sum of squares about that mean are exact to rounding, and merging two blocks,
//
//   mean = (n mean + m mean') / (n + m);   squares = squares + squares' + (mean' - mean)^2 n m / (n + m),
//
// adds terms that cannot be negative, so nothing cancels however far the mean is from 0.
template <int V>
void LayerNormOf(const float* x, int64_t features, int64_t stride, const float* gamma, const float* beta, float epsilon,
                 float* y) {
  constexpr int64_t kBlock = 32;
  Vec mean[V], squares[V];
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) mean[v] = squares[v] = Set(0.0f);
  for (int64_t first = 0; first < features; first += kBlock) {
    const int64_t count = features - first < kBlock ? features - first : kBlock;
    const float* block = x + first * stride;
    // Two sums, of even and odd features, so that one need not wait for the other.
    Vec even[V], odd[V], block_mean[V];
    const auto over_features = [&](const auto& add) __attribute__((always_inline)) {
      AEROGEL_UNROLL for (int v = 0; v < V; ++v) even[v] = odd[v] = Set(0.0f);
      int64_t k = 0;
      for (; k + 2 <= count; k += 2) {
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
          even[v] = add(even[v], Load(block + k * stride + v * kWidth), v);
          odd[v] = add(odd[v], Load(block + (k + 1) * stride + v * kWidth), v);
        }
      }
      if (k < count) {
        AEROGEL_UNROLL for (int v = 0; v < V; ++v) even[v] = add(even[v], Load(block + k * stride + v * kWidth), v);
      }
    };
    over_features([](Vec sum, Vec value, int) __attribute__((always_inline)) { return Add(sum, value); });
    const float total = static_cast<float>(first + count);
    const Vec inv_count = Set(1.0f / static_cast<float>(count)), mean_weight = Set(static_cast<float>(count) / total),
              square_weight = Set(static_cast<float>(first) * static_cast<float>(count) / total);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) block_mean[v] = Mul(Add(even[v], odd[v]), inv_count);
    over_features([&](Vec sum, Vec value, int v) __attribute__((always_inline)) {
      const Vec d = Sub(value, block_mean[v]);
      return MulAdd(d, d, sum);
    });
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      const Vec delta = Sub(block_mean[v], mean[v]);
      squares[v] = Add(squares[v], MulAdd(Mul(delta, delta), square_weight, Add(even[v], odd[v])));
      mean[v] = MulAdd(delta, mean_weight, mean[v]);
    }
  }
  const Vec inv_count = Set(1.0f / static_cast<float>(features));
  Vec inverse[V];  // 1 / sqrt(variance + epsilon)
  AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
    inverse[v] = Div(Set(1.0f), Sqrt(MulAdd(squares[v], inv_count, Set(epsilon))));
  }
  for (int64_t k = 0; k < features; ++k) {
    const Vec g = Set(gamma[k]), b = Set(beta[k]);
    AEROGEL_UNROLL for (int v = 0; v < V; ++v) {
      const int64_t at = k * stride + v * kWidth;
      Store(y + at, MulAdd(Mul(Sub(Load(x + at), mean[v]), inverse[v]), g, b));
    }
  }
}

void LayerNorm(const float* x, int64_t features, int64_t stride, int vectors, const float* gamma, const float* beta,
               float epsilon, float* y) {
  for (; vectors >= 4; vectors -= 4, x += 4 * kWidth, y += 4 * kWidth) {
    LayerNormOf<4>(x, features, stride, gamma, beta, epsilon, y);
  }
  if (vectors & 2) {
    LayerNormOf<2>(x, features, stride, gamma, beta, epsilon, y);
    x += 2 * kWidth, y += 2 * kWidth;
  }
  if (vectors & 1) LayerNormOf<1>(x, features, stride, gamma, beta, epsilon, y);
}

void AbsMax(const float* x, int64_t features, int64_t stride, int vectors, float* m) {
  for (int64_t t = 0; t < vectors * kWidth; t += kWidth) {
    Vec max = Set(0.0f);
    for (int64_t k = 0; k < features; ++k) max = MaxAbs(max, Load(x + k * stride + t));
    Store(m + t, max);
  }
}

void Quantize(const float* x, int64_t features, int64_t stride, int vectors, const float* inverse, int offset,
              uint8_t* q) {
  // Adding 128 to a byte flips its highest bit.
  const int32_t flip = offset ? static_cast<int32_t>(0x80808080) : 0;
  for (int64_t k = 0; k < features; k += 4) {
    for (int64_t t = 0; t < vectors * kWidth; t += kWidth) {
      const Vec factor = Load(inverse + t);
      Vec scaled[4];
      for (int64_t i = 0; i < 4; ++i) {
        scaled[i] = k + i < features ? Mul(Load(x + (k + i) * stride + t), factor) : Set(0.0f);
      }
      StoreInt8x4(q + k * stride + 4 * t, scaled[0], scaled[1], scaled[2], scaled[3], flip);
    }
  }
}

void GatherRows(const float* const* rows, int64_t tokens, int64_t features, int vectors, float* xt) {
  const int64_t stride = int64_t{vectors} * kWidth;
  const float zeros[kWidth] = {};
  for (int64_t t = 0; t < stride; t += kWidth) {
    const float* row[kWidth];
    int64_t step[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      row[i] = t + i < tokens ? rows[t + i] : zeros;
      step[i] = t + i < tokens ? 1 : 0;
    }
    int64_t k = 0;
    for (; k + kWidth <= features; k += kWidth) {
      Vec r[kWidth];
      AEROGEL_UNROLL for (int i = 0; i < kWidth; ++i) r[i] = Load(row[i] + k * step[i]);
      Transpose(r);
      AEROGEL_UNROLL for (int i = 0; i < kWidth; ++i) Store(xt + (k + i) * stride + t, r[i]);
    }
    for (; k < features; ++k) {
      for (int i = 0; i < kWidth; ++i) xt[k * stride + t + i] = row[i][k * step[i]];
    }
  }
}

void ScatterRows(const float* xt, int64_t stride, int64_t tokens, int64_t features, float* const* rows) {
  for (int64_t t = 0; t < tokens; t += kWidth) {
    const int64_t here = tokens - t < kWidth ? tokens - t : kWidth;
    int64_t k = 0;
    for (; k + kWidth <= features; k += kWidth) {
      Vec r[kWidth];
      AEROGEL_UNROLL for (int i = 0; i < kWidth; ++i) r[i] = Load(xt + (k + i) * stride + t);
      Transpose(r);
      for (int64_t i = 0; i < here; ++i) Store(rows[t + i] + k, r[i]);
    }
    for (; k < features; ++k) {
      for (int64_t i = 0; i < here; ++i) rows[t + i][k] = xt[k * stride + t + i];
    }
  }
}

}  // namespace

extern const ElementwiseTable kElementwise;
const ElementwiseTable kElementwise = {kWidth,    Exp2All, GeluAll<GeluErf>, GeluAll<GeluTanh>, Relu,
                                       LayerNorm, AbsMax,  Quantize,         GatherRows,        ScatterRows};

}  // namespace AEROGEL_ISA
}  // namespace aerogel
