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
  const char* x;         // of the tile
  char* sums;            // of the chunk
  const void* start;     // of the chunk, see SpmmArgs
  const char* residual;  // likewise
};

// Hides from the compiler where a pointer comes from. GCC would else keep the address of each of up to 16 vectors of
// sums from their loads to their stores, in registers that the loop between has no room for: a tenth of the time of 4x1
// blocks.
template <typename T>
AEROGEL_INLINE T* Opaque(T* p) {
  __asm__("" : "+r"(p));
  return p;
}

// Sums of V vectors before their first entry: in the first tile of columns what they start from, else what is there.
template <typename K, int V, bool First>
AEROGEL_INLINE void LoadSums(const GroupArgs& group, int64_t row, int64_t at, typename K::Sum (&sum)[V]) {
  if (First) {
    const typename K::Sum start = K::SpreadStart(static_cast<const typename K::Start*>(group.start) + row);
    UNROLL for (int v = 0; v < V; ++v) sum[v] = start;
    if (group.residual) {
      const char* const residual = Opaque(group.residual + at);
      UNROLL for (int v = 0; v < V; ++v) sum[v] = K::Plus(sum[v], K::LoadSum(residual + v * kVectorBytes));
    }
  } else {
    const char* const sums = Opaque(group.sums + at);
    UNROLL for (int v = 0; v < V; ++v) sum[v] = K::LoadSum(sums + v * kVectorBytes);
  }
}

// Rows: V vectors of tokens; Q times four entries without a branch between, then count % 4 more. kAnyLength: a loop.
constexpr int kAnyLength = -1;

template <typename K, int V, int J>
AEROGEL_INLINE void Entry(typename K::Quad quad, const char* x, typename K::Sum (&sum)[V]) {
  UNROLL for (int v = 0; v < V; ++v) sum[v] = K::template MulAdd<J>(quad, K::LoadX(x + v * kVectorBytes), sum[v]);
}

// `odd` may be `sum` itself.
template <typename K, int V>
AEROGEL_INLINE void FourEntries(const uint8_t* columns, const typename K::Value* w, const char* x,
                                typename K::Sum (&sum)[V], typename K::Sum (&odd)[V]) {
  constexpr int64_t kStride = V * kVectorBytes;
  uint32_t four;
  __builtin_memcpy(&four, columns, sizeof four);
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns are taken out of the integer from its low end");
  const typename K::Quad quad = K::LoadFour(w);
  Entry<K, V, 0>(quad, x + (four & 255) * kStride, sum);
  Entry<K, V, 1>(quad, x + (four >> 8 & 255) * kStride, odd);
  Entry<K, V, 2>(quad, x + (four >> 16 & 255) * kStride, sum);
  Entry<K, V, 3>(quad, x + (four >> 24) * kStride, odd);
}

// What a coming panel will load its sums from.
template <bool First>
AEROGEL_INLINE const char* Ahead(const GroupArgs& group) {
  return First && group.residual ? group.residual : group.sums;
}

// Values come from memory, in rows that are visited by length.
template <typename Value>
AEROGEL_INLINE void PrefetchValues(const Value* values, int count) {
  const auto* first = reinterpret_cast<const char*>(values);
  const char* const last = reinterpret_cast<const char*>(values + count) - 1;
  for (; first < last; first += 64) __builtin_prefetch(first);
  __builtin_prefetch(last);
}

template <typename K, int V, bool First, int Q>
void RowGroup(const GroupArgs& group) {
  constexpr int64_t kStride = V * kVectorBytes;
  // Copies, because a store of sums could otherwise change what is behind `group`. 6% on 768 x 768 at 10%.
  const GroupArgs g = group;
  const auto* const values = static_cast<const typename K::Value*>(g.values);
  const uint8_t* columns = g.columns;
  const uint32_t* firsts = g.firsts;
  const uint16_t* const end = g.rows + g.panels;
  for (const uint16_t* row = g.rows; row != end; ++row, ++firsts, columns += g.count) {
    // Sums come from the second-level cache, in an order that nothing else foresees. 3% on 3072 x 768 at 10%.
    const char* const ahead = Ahead<First>(g) + row[kSumsAhead] * kStride;
    UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(ahead + v * kVectorBytes);
    PrefetchValues(values + firsts[kValuesAhead], g.count);
    const int64_t at = *row * kStride;
    const typename K::Value* const w = values + *firsts;
    typename K::Sum sum[V];
    LoadSums<K, V, First>(g, *row, at, sum);
    int i = 0;
    if (Q == kAnyLength) {
      // Two sets of sums: a long row's additions would wait for each other. 25% on 768 x 768 at half its entries.
      typename K::Sum odd[V];
      UNROLL for (int v = 0; v < V; ++v) odd[v] = K::Zero();
      for (; i + 4 <= g.count; i += 4) FourEntries<K, V>(columns + i, w + i, g.x, sum, odd);
      UNROLL for (int v = 0; v < V; ++v) sum[v] = K::Plus(sum[v], odd[v]);
    } else {
      UNROLL for (; i < 4 * Q; i += 4) FourEntries<K, V>(columns + i, w + i, g.x, sum, sum);
    }
    for (; i < g.count; ++i) Entry<K, V, 0>(K::LoadOne(w + i), g.x + columns[i] * kStride, sum);
    char* const sums = Opaque(g.sums + at);
    UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + v * kVectorBytes, sum[v]);
  }
}

// Panels of H = 2 or 4 rows that share their columns: V of the S vectors of a tile, so that H * V sums stay in
// registers.
template <typename K, int H, int V, int S, bool First>
AEROGEL_INLINE void BlockGroup(const GroupArgs& group, int first_vector) {
  constexpr int64_t kStride = S * kVectorBytes;
  constexpr int kEntries = 4 / H;  // in a quad
  const GroupArgs g = group;
  const auto* const values = static_cast<const typename K::Value*>(g.values);
  const uint8_t* columns = g.columns;
  const char* const x = g.x + first_vector * kVectorBytes;
  for (int p = 0; p < g.panels; ++p, columns += g.count) {
    // Also the sums: 4% on 768 x 768 in blocks of 4 x 1 at 10%.
    const char* const ahead = Ahead<First>(g) + g.rows[p + kSumsAhead] * kStride + first_vector * kVectorBytes;
    UNROLL for (int h = 0; h < H; ++h) {
      UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(ahead + h * kStride + v * kVectorBytes);
    }
    PrefetchValues(values + int64_t{g.firsts[p + kValuesAhead]} * H, g.count * H);
    const int64_t at = g.rows[p] * kStride + first_vector * kVectorBytes;
    const typename K::Value* w = values + int64_t{g.firsts[p]} * H;
    typename K::Sum sum[H][V];
    UNROLL for (int h = 0; h < H; ++h) LoadSums<K, V, First>(g, g.rows[p] + h, at + h * kStride, sum[h]);
    int i = 0;
    for (; i + kEntries <= g.count; i += kEntries, w += 4) {
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
    if (i < g.count) {  // the odd entry of two rows
      const char* x0 = x + columns[i] * kStride;
      UNROLL for (int h = 0; h < H; ++h) Entry<K, V, 0>(K::LoadOne(w + h), x0, sum[h]);
    }
    UNROLL for (int h = 0; h < H; ++h) {
      char* const sums = Opaque(g.sums + at + h * kStride);
      UNROLL for (int v = 0; v < V; ++v) K::StoreSum(sums + v * kVectorBytes, sum[h][v]);
    }
  }
}

template <typename K, int H, int S, bool First>
void BlockGroups(const GroupArgs& group) {
#if defined(AEROGEL_AVX2)
  constexpr int kSums = 8;  // of 16 registers
#else
  constexpr int kSums = 16;  // of 32
#endif
  constexpr int kVectors = H * S <= kSums ? S : kSums / H;
  for (int v = 0; v < S; v += kVectors) BlockGroup<K, H, kVectors, S, First>(group, v);
}

using RunGroup = void (*)(const GroupArgs&);

template <typename K, int V, bool First>
RunGroup RowGroupOf(int count) {
#if !defined(AEROGEL_SCALAR)  // where it would gain nothing and takes GCC a minute
  static constexpr RunGroup kUnrolled[] = {RowGroup<K, V, First, 0>, RowGroup<K, V, First, 1>, RowGroup<K, V, First, 2>,
                                           RowGroup<K, V, First, 3>, RowGroup<K, V, First, 4>, RowGroup<K, V, First, 5>,
                                           RowGroup<K, V, First, 6>};
  if (count / 4 < static_cast<int>(sizeof kUnrolled / sizeof kUnrolled[0])) return kUnrolled[count / 4];
#endif
  (void)count;
  return RowGroup<K, V, First, kAnyLength>;
}

template <typename K, int V, bool First>
void RunTile(const SpmmArgs& args, int64_t tile) {
  const Segment& segment = args.segments[tile];
  GroupArgs group{};
  group.firsts = args.firsts + segment.first_panel;
  group.rows = args.rows + segment.first_panel;
  group.columns = args.columns + segment.first_entry;
  group.values = args.values;
  group.x = static_cast<const char*>(args.x) + tile * args.tile_cols * V * kVectorBytes;
  group.sums = static_cast<char*>(args.sums);
  group.start = args.start;
  group.residual = static_cast<const char*>(static_cast<const void*>(args.residual));
  const Group* end = args.groups + args.segments[tile + 1].first_group;
  for (const Group* g = args.groups + segment.first_group; g != end; ++g) {
    group.panels = g->panels;
    group.count = g->count;
    switch (args.height) {
      case 1:
        RowGroupOf<K, V, First>(g->count)(group);
        break;
      case 2:
        BlockGroups<K, 2, V, First>(group);
        break;
      default:
        BlockGroups<K, 4, V, First>(group);
        break;
    }
    group.firsts += g->panels;
    group.rows += g->panels;
    group.columns += int64_t{g->panels} * g->count;
  }
}

template <typename K, int V>
void SpmmVectors(const SpmmArgs& args) {
  GroupArgs start{};
  start.start = args.start;
  start.residual = static_cast<const char*>(static_cast<const void*>(args.residual));
  for (int64_t i = 0; i < args.idle; ++i) {
    const int64_t at = args.idle_rows[i] * V * kVectorBytes;
    typename K::Sum sum[V];
    LoadSums<K, V, true>(start, args.idle_rows[i], at, sum);
    for (int v = 0; v < V; ++v) K::StoreSum(static_cast<char*>(args.sums) + at + v * kVectorBytes, sum[v]);
  }
  RunTile<K, V, true>(args, 0);
  for (int64_t tile = 1; tile < args.tiles; ++tile) RunTile<K, V, false>(args, tile);
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
  const int64_t at = row * kStride + first_vector * kWidth;
  float* const sums = args.y + at;
  const float* x = args.x + first_k * kStride + first_vector * kWidth;
  const float* w = args.weight + first_k * args.out_features + row;
  Vec sum[H][V];
  UNROLL for (int h = 0; h < H; ++h) {
    UNROLL for (int v = 0; v < V; ++v) {
      const int64_t here = h * kStride + v * kWidth;
      if (first_k > 0) {
        sum[h][v] = Load(sums + here);
      } else {
        sum[h][v] = Set(args.bias[row + h]);
        if (args.residual) sum[h][v] = Add(sum[h][v], Load(args.residual + at + here));
      }
    }
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

void Dequantize(const DequantizeArgs& args) {
  const int64_t stride = int64_t{args.vectors} * kWidth;
  auto* y = static_cast<char*>(args.y);
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

constexpr KernelTable kKernels = {AEROGEL_NAME, kWidth, kUnsignedActivations, Spmm, Gemm, Dequantize, &AEROGEL_STAGES};

}  // namespace AEROGEL_ISA

// Constant data: nothing of this file runs before it is chosen.
const KernelTable AEROGEL_TABLE = AEROGEL_ISA::kKernels;

}  // namespace aerogel
