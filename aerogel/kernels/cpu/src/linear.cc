// Products of sparse and dense matrices with a tile of activations. Compiled once per instruction set; CMakeLists.txt
// sets the flags, AEROGEL_ISA (the namespace) and AEROGEL_TABLE (the table's symbol).
//
//   sum[n, t] += W[n, k] x[k, t]   over stored (n, k)
//
// Activations are feature-major, so a stored weight is spread once and meets a whole vector of tokens at a time. Work
// goes chunk of rows by chunk, inside it tile of columns by tile: the activations of a tile fit the first-level cache,
// which is what the speed of unstructured weights hangs on.
#include "kernels.h"
#include "quads.h"

namespace aerogel {
namespace AEROGEL_ISA {
namespace {

// Unrolled before arrays are taken apart into registers; without it GCC keeps the sums on the stack.
#define UNROLL _Pragma("GCC unroll 16")

constexpr int64_t kVectorBytes = kWidth * 4;

// The panels of one length of one chunk and tile. `columns` holds count bytes per panel, one panel after the other.
struct GroupArgs {
  int panels;
  int count;
  const uint32_t* firsts;
  const uint16_t* rows;
  const uint8_t* columns;
  const void* values;
  const char* x;  // of the tile
  char* sums;     // of the chunk
};

// Rows: V vectors of tokens; Q times four entries without a branch between, then count % 4 more. kAnyLength: a loop.
constexpr int kAnyLength = -1;
constexpr int kLongest = 12;

template <typename K, int V, int J>
AEROGEL_INLINE void Entry(typename K::Quad quad, const char* x, typename K::Sum (&sum)[V]) {
  UNROLL for (int v = 0; v < V; ++v) sum[v] = K::template MulAdd<J>(quad, K::LoadX(x + v * kVectorBytes), sum[v]);
}

template <typename K, int V>
AEROGEL_INLINE void FourEntries(const uint8_t* columns, const typename K::Value* w, const char* x,
                                typename K::Sum (&sum)[V]) {
  constexpr int64_t kStride = V * kVectorBytes;
  uint32_t four;
  __builtin_memcpy(&four, columns, sizeof four);
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns are taken out of the integer from its low end");
  const typename K::Quad quad = K::LoadFour(w);
  Entry<K, V, 0>(quad, x + (four & 255) * kStride, sum);
  Entry<K, V, 1>(quad, x + (four >> 8 & 255) * kStride, sum);
  Entry<K, V, 2>(quad, x + (four >> 16 & 255) * kStride, sum);
  Entry<K, V, 3>(quad, x + (four >> 24) * kStride, sum);
}

template <typename K, int V, int Q>
void RowGroup(const GroupArgs& group) {
  constexpr int64_t kStride = V * kVectorBytes;
  const uint8_t* columns = group.columns;
  const auto* values = static_cast<const typename K::Value*>(group.values);
  const int count = group.count;
  const char* x = group.x;
  for (int p = 0; p < group.panels; ++p, columns += count) {
    // Sums come from the second-level cache, in an order that nothing else foresees. 3% on 3072 x 768 at 10%.
    const char* ahead = group.sums + group.rows[p + kPrefetchDistance] * kStride;
    UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(ahead + v * kVectorBytes);
    char* sums = group.sums + group.rows[p] * kStride;
    const typename K::Value* w = values + group.firsts[p];
    typename K::Sum sum[V];
    UNROLL for (int v = 0; v < V; ++v) sum[v] = K::LoadSum(sums + v * kVectorBytes);
    int i = 0;
    if (Q == kAnyLength) {
      for (; i + 4 <= count; i += 4) FourEntries<K, V>(columns + i, w + i, x, sum);
    } else {
      UNROLL for (; i < 4 * Q; i += 4) FourEntries<K, V>(columns + i, w + i, x, sum);
    }
    for (; i < count; ++i) Entry<K, V, 0>(K::LoadOne(w + i), x + columns[i] * kStride, sum);
    UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + v * kVectorBytes, sum[v]);
  }
}

// Panels of H = 2 or 4 rows that share their columns: V of the S vectors of a tile, so that H * V sums stay in
// registers.
template <typename K, int H, int V, int S>
void BlockGroup(const GroupArgs& group, int first_vector) {
  constexpr int64_t kStride = S * kVectorBytes;
  constexpr int kEntries = 4 / H;  // in a quad
  const uint8_t* columns = group.columns;
  const char* x = group.x + first_vector * kVectorBytes;
  char* all_sums = group.sums + first_vector * kVectorBytes;
  for (int p = 0; p < group.panels; ++p, columns += group.count) {
    char* sums = all_sums + group.rows[p] * kStride;
    const auto* w = static_cast<const typename K::Value*>(group.values) + int64_t{group.firsts[p]} * H;
    typename K::Sum sum[H][V];
    UNROLL for (int h = 0; h < H; ++h) {
      UNROLL for (int v = 0; v < V; ++v) sum[h][v] = K::LoadSum(sums + h * kStride + v * kVectorBytes);
    }
    int i = 0;
    for (; i + kEntries <= group.count; i += kEntries, w += 4) {
      const typename K::Quad quad = K::LoadFour(w);
      const char* x0 = x + columns[i] * kStride;
      const char* x1 = x + columns[i + kEntries - 1] * kStride;
      UNROLL for (int v = 0; v < V; ++v) {
        const typename K::X first = K::LoadX(x0 + v * kVectorBytes);
        sum[0][v] = K::template MulAdd<0>(quad, first, sum[0][v]);
        sum[1][v] = K::template MulAdd<1>(quad, first, sum[1][v]);
        const typename K::X second = H == 4 ? first : K::LoadX(x1 + v * kVectorBytes);
        sum[2 % H][v] = K::template MulAdd<2>(quad, second, sum[2 % H][v]);
        sum[3 % H][v] = K::template MulAdd<3>(quad, second, sum[3 % H][v]);
      }
    }
    if (i < group.count) {  // the odd entry of two rows
      const char* x0 = x + columns[i] * kStride;
      UNROLL for (int h = 0; h < H; ++h) {
        UNROLL for (int v = 0; v < V; ++v) {
          sum[h][v] = K::template MulAdd<0>(K::LoadOne(w + h), K::LoadX(x0 + v * kVectorBytes), sum[h][v]);
        }
      }
    }
    UNROLL for (int h = 0; h < H; ++h) {
      UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + h * kStride + v * kVectorBytes, sum[h][v]);
    }
  }
}

template <typename K, int H, int S>
void BlockGroups(const GroupArgs& group) {
#if defined(AEROGEL_AVX2)
  constexpr int kSums = 8;  // of 16 registers
#else
  constexpr int kSums = 16;  // of 32
#endif
  constexpr int kVectors = H * S <= kSums ? S : kSums / H;
  for (int v = 0; v < S; v += kVectors) BlockGroup<K, H, kVectors, S>(group, v);
}

using RunGroup = void (*)(const GroupArgs&);

template <typename K, int V>
RunGroup RowGroupOf(int count) {
  static constexpr RunGroup kTable[kLongest + 1] = {
      RowGroup<K, V, 0>,  RowGroup<K, V, 1>,  RowGroup<K, V, 2>, RowGroup<K, V, 3>, RowGroup<K, V, 4>,
      RowGroup<K, V, 5>,  RowGroup<K, V, 6>,  RowGroup<K, V, 7>, RowGroup<K, V, 8>, RowGroup<K, V, 9>,
      RowGroup<K, V, 10>, RowGroup<K, V, 11>, RowGroup<K, V, 12>};
  return count / 4 <= kLongest ? kTable[count / 4] : RowGroup<K, V, kAnyLength>;
}

template <typename K, int V>
void SpmmVectors(const SpmmArgs& args) {
  // Panels jump about in the chunk's values.
  for (int64_t i = 0; i < args.ahead_bytes; i += 64) __builtin_prefetch(args.ahead + i, 0, 2);
  for (int64_t tile = 0; tile < args.tiles; ++tile) {
    const Segment& segment = args.segments[tile];
    GroupArgs group{};
    group.firsts = args.firsts + segment.first_panel;
    group.rows = args.rows + segment.first_panel;
    group.columns = args.columns + segment.first_entry;
    group.values = args.values;
    group.x = static_cast<const char*>(args.x) + tile * args.tile_cols * V * kVectorBytes;
    group.sums = static_cast<char*>(args.accumulators);
    const Group* end = args.groups + args.segments[tile + 1].first_group;
    for (const Group* g = args.groups + segment.first_group; g != end; ++g) {
      group.panels = g->panels;
      group.count = g->count;
      switch (args.height) {
        case 1:
          RowGroupOf<K, V>(g->count)(group);
          break;
        case 2:
          BlockGroups<K, 2, V>(group);
          break;
        default:
          BlockGroups<K, 4, V>(group);
          break;
      }
      group.firsts += g->panels;
      group.rows += g->panels;
      group.columns += int64_t{g->panels} * g->count;
    }
  }
}

template <typename K>
void SpmmOf(const SpmmArgs& args) {
  switch (args.vectors) {
    case 1:
      return SpmmVectors<K, 1>(args);
    case 2:
      return SpmmVectors<K, 2>(args);
    default:
      return SpmmVectors<K, 4>(args);
  }
}

void Spmm(const SpmmArgs& args) {
  switch (args.kind) {
    case Values::kFloat32:
      return SpmmOf<Float32>(args);
    case Values::kFloat16:
      return SpmmOf<Float16>(args);
    default:
      return SpmmOf<Int8>(args);
  }
}

// A dense weight [in][out]: four neighbouring outputs are a quad, whose rows of W^T follow at the weight's stride.
template <int H, int V, int S>
void GemmRows(const GemmArgs& args, int64_t first_k, int64_t end_k, int64_t row, int first_vector) {
  constexpr int64_t kStride = S * kWidth;
  float* sums = args.accumulators + row * kStride + first_vector * kWidth;
  const float* x = args.x + first_k * kStride + first_vector * kWidth;
  const float* w = args.weight + first_k * args.out_features + row;
  Vec sum[H][V];
  UNROLL for (int h = 0; h < H; ++h) {
    UNROLL for (int v = 0; v < V; ++v) sum[h][v] = Load(sums + h * kStride + v * kWidth);
  }
  for (int64_t k = first_k; k < end_k; ++k, x += kStride, w += args.out_features) {
    const Float32::Quad quad = H == 4 ? Float32::LoadFour(w) : Float32::LoadOne(w);
    UNROLL for (int v = 0; v < V; ++v) {
      const Vec xs = Load(x + v * kWidth);
      sum[0][v] = Float32::MulAdd<0>(quad, xs, sum[0][v]);
      if (H == 4) {
        sum[1 % H][v] = Float32::MulAdd<1>(quad, xs, sum[1 % H][v]);
        sum[2 % H][v] = Float32::MulAdd<2>(quad, xs, sum[2 % H][v]);
        sum[3 % H][v] = Float32::MulAdd<3>(quad, xs, sum[3 % H][v]);
      }
    }
  }
  UNROLL for (int h = 0; h < H; ++h) {
    UNROLL for (int v = 0; v < V; ++v) Store(sums + h * kStride + v * kWidth, sum[h][v]);
  }
}

template <int S>
void GemmVectors(const GemmArgs& args) {
#if defined(AEROGEL_AVX2)
  constexpr int kVectors = S < 2 ? S : 2;
#else
  constexpr int kVectors = S;
#endif
  constexpr int64_t kTile = 128;  // features whose activations stay in the first-level cache
  for (int64_t k = 0; k < args.in_features; k += kTile) {
    const int64_t end = k + kTile < args.in_features ? k + kTile : args.in_features;
    int64_t row = 0;
    for (; row + 4 <= args.rows; row += 4) {
      for (int v = 0; v < S; v += kVectors) GemmRows<4, kVectors, S>(args, k, end, row, v);
    }
    for (; row < args.rows; ++row) GemmRows<1, S, S>(args, k, end, row, 0);
  }
}

void Gemm(const GemmArgs& args) {
  switch (args.vectors) {
    case 1:
      return GemmVectors<1>(args);
    case 2:
      return GemmVectors<2>(args);
    default:
      return GemmVectors<4>(args);
  }
}

void Start(float* accumulators, int64_t rows, int vectors, const float* bias, const float* residual) {
  const int64_t stride = int64_t{vectors} * kWidth;
  const Vec one = Set(1.0f);
  for (int64_t n = 0; n < rows; ++n) {
    const Vec b = Set(bias[n]);
    for (int64_t t = n * stride; t < (n + 1) * stride; t += kWidth) {
      Store(accumulators + t, residual ? MulAdd(one, Load(residual + t), b) : b);
    }
  }
}

void StartSums(void* accumulators, int64_t rows, int vectors, const int32_t* offset) {
  auto* sums = static_cast<int32_t*>(accumulators);
  const int64_t stride = int64_t{vectors} * kWidth;
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t t = 0; t < stride; ++t) sums[n * stride + t] = offset[n];
  }
}

void Dequantize(const DequantizeArgs& args) {
  const int64_t stride = int64_t{args.vectors} * kWidth;
  auto* y = static_cast<char*>(args.accumulators);
  for (int64_t n = 0; n < args.rows; ++n) {
    const Vec b = Set(args.bias[n]);
    const Vec scale = Set(args.row_scale[n]);
    for (int64_t t = 0; t < stride; t += kWidth) {
      const int64_t at = n * stride + t;
      const Vec sum = LoadAsFloat(y + at * 4);
      Vec value = MulAdd(sum, Mul(Load(args.token_scale + t), scale), b);
      if (args.residual) value = Add(value, Load(args.residual + at));
      Store(reinterpret_cast<float*>(y + at * 4), value);
    }
  }
}

}  // namespace

constexpr KernelTable kKernels = {AEROGEL_NAME, kWidth,    kUnsignedActivations, Spmm,           Gemm,
                                  Start,        StartSums, Dequantize,           &AEROGEL_STAGES};

}  // namespace AEROGEL_ISA

// Constant data: nothing of this file runs before it is chosen.
const KernelTable AEROGEL_TABLE = AEROGEL_ISA::kKernels;

}  // namespace aerogel
