#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "workspace.h"

namespace aerogel {
namespace {

// Whole sequences are taken together up to this many tokens: enough for many threads to share, few enough for the
// activations to stay in cache.
constexpr int64_t kGroupTokens = 512;

struct Tile {
  int64_t first;  // token of the group
  int64_t tokens;
  int vectors;
};

// One sequence: tokens [first, first + tokens) of the group.
struct Sequence {
  int64_t first;
  int64_t tokens;
  size_t spans;  // where its spans begin, of each head in turn
  int span_count;
};

// The queries of one sequence that lie in one tile.
struct Queries {
  size_t sequence;
  int64_t tile;
};

std::string Sizes(const Matrix& m) { return std::to_string(m.out_features()) + "x" + std::to_string(m.in_features()); }

}  // namespace

EncoderLayer MakeLayer(const AerogelEncoderLayer& source, const KernelTable& kernels, LayerFault* fault) {
  EncoderLayer layer;
  const auto make = [&](size_t which, const AerogelMatrix& matrix, const std::vector<bool>* keep = nullptr) {
    fault->matrix = which;
    return Matrix::Create(matrix, kernels, &fault->fault, keep);
  };
  (layer.q = make(0, source.q)) && (layer.k = make(1, source.k)) && (layer.v = make(2, source.v)) &&
      (layer.o = make(3, source.o)) && (layer.down = make(5, source.ffn2)) &&
      // Neurons that nothing reads need no products; a mismatch of sizes is found later.
      (layer.up =
           make(4, source.ffn1, layer.down->in_features() == source.ffn1.out_features ? layer.down->read() : nullptr));
  if (fault->fault) return layer;  // sizes by which nothing may be read
  const int64_t hidden = layer.q->in_features();
  layer.gamma1.assign(source.gamma1, source.gamma1 + hidden);
  layer.beta1.assign(source.beta1, source.beta1 + hidden);
  layer.gamma2.assign(source.gamma2, source.gamma2 + hidden);
  layer.beta2.assign(source.beta2, source.beta2 + hidden);
  return layer;
}

std::unique_ptr<Encoder> Encoder::Create(std::vector<EncoderLayer> layers, int64_t heads, float epsilon,
                                         Activation activation, bool first_only, std::string* error) {
  std::unique_ptr<Encoder> encoder(new Encoder);
  if (layers.empty()) {
    *error = "there is no layer";
    return nullptr;
  }
  const int64_t hidden = layers[0].q->in_features(), attended = layers[0].q->out_features();
  if (heads < 1 || attended % heads != 0) {
    *error = std::to_string(heads) + " heads do not divide " + std::to_string(attended) + " features";
    return nullptr;
  }
  if (!(epsilon >= 0.0f) || std::isinf(epsilon)) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", static_cast<double>(epsilon));
    *error = std::string("attribute epsilon is ") + text + "; it must be finite and not negative";
    return nullptr;
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const EncoderLayer& layer = layers[i];
    const int64_t inner = layer.up->out_features();
    const struct {
      const char* name;
      const Matrix& matrix;
      int64_t out, in;
    } wanted[] = {{"q", *layer.q, attended, hidden},  {"k", *layer.k, attended, hidden},
                  {"v", *layer.v, attended, hidden},  {"o", *layer.o, hidden, attended},
                  {"ffn1", *layer.up, inner, hidden}, {"ffn2", *layer.down, hidden, inner}};
    for (const auto& w : wanted) {
      if (w.matrix.out_features() == w.out && w.matrix.in_features() == w.in) continue;
      *error = "layer " + std::to_string(i) + ": " + w.name + " is " + Sizes(w.matrix) + ", not " +
               std::to_string(w.out) + "x" + std::to_string(w.in);
      return nullptr;
    }
    encoder->inner_ = std::max(encoder->inner_, inner);
    for (const auto& w : wanted) encoder->quantized_ |= w.matrix.quantized();
    encoder->live_heads_.push_back(layer.o->ReadColumns(attended / heads));
  }
  const StageTable& stages = *layers[0].q->kernels().stages;
  const auto fits = [&](const AttentionKernel& kernel) {
    return kernel.run && kernel.scratch(attended / heads) <= kScratchFloats;
  };
  if (!fits(stages.attention)) {
    *error = "heads of " + std::to_string(attended / heads) + " features are too large";
    return nullptr;
  }
  for (EncoderLayer& layer : layers) {
    // What bfloat16 loses in attention does not show behind projections that are rounded to 8 bits.
    const bool rounded = layer.q->quantized() && layer.k->quantized() && layer.v->quantized();
    layer.attention = rounded && fits(stages.rounded_attention) ? stages.rounded_attention.run : stages.attention.run;
  }
  encoder->layers_ = std::move(layers);
  encoder->heads_ = heads;
  encoder->attended_ = attended;
  encoder->epsilon_ = epsilon;
  encoder->activation_ = activation;
  encoder->first_only_ = first_only;
  return encoder;
}

// One group of sequences on its way through the layers.
class EncoderRun {
 public:
  EncoderRun(const Encoder& encoder, const Parallel& parallel)
      : encoder_(encoder),
        parallel_(parallel),
        kernels_(encoder.layers_[0].q->kernels()),
        stages_(*kernels_.stages),
        tile_tokens_(int64_t{kTileVectors} * kernels_.width) {}

  // rows_in: of each token, its place in the caller's tensor. lengths: tokens of each sequence. rows_out: of each token
  // that is computed to the end, where it goes.
  void Run(const std::vector<const float*>& rows_in, const std::vector<float*>& rows_out,
           const std::vector<int64_t>& lengths, Workspace* workspace) {
    Plan(static_cast<int64_t>(rows_in.size()), lengths, workspace);
    ForTiles([&](const Tile& tile) {
      stages_.gather_rows(&rows_in[static_cast<size_t>(tile.first)], tile.tokens, encoder_.features(), tile.vectors,
                          At(x_, tile));
      Quantize(x_, encoder_.features(), tile, xq_, x_scale_);
    });
    for (size_t i = 0; i < encoder_.layers_.size(); ++i) {
      const bool first_only = encoder_.first_only_ && i + 1 == encoder_.layers_.size();
      Attend(encoder_.layers_[i], encoder_.live_heads_[i], first_only);
      if (first_only) KeepFirstTokens();
      Feed(encoder_.layers_[i]);
    }
    ForTiles([&](const Tile& tile) {
      stages_.scatter_rows(At(x_, tile), Stride(tile), tile.tokens, encoder_.features(),
                           &rows_out[static_cast<size_t>(tile.first)]);
    });
  }

 private:
  // A tensor [features] of all tiles, one tile behind the other.
  struct Buffer {
    float* data;
    int64_t features;
  };

  void PlanTiles(int64_t tokens) {
    tiles_.clear();
    for (int64_t first = 0; first < tokens; first += tile_tokens_) {
      const int64_t here = std::min(tile_tokens_, tokens - first);
      tiles_.push_back({first, here, VectorsFor(here, kernels_.width)});
    }
  }

  void Plan(int64_t tokens, const std::vector<int64_t>& lengths, Workspace* workspace) {
    PlanTiles(tokens);
    const int64_t lanes = static_cast<int64_t>(tiles_.size()) * tile_tokens_;
    const int64_t hidden = encoder_.features(), attended = encoder_.attended_, inner = encoder_.inner_;
    const auto rounded = [&](int64_t features) { return encoder_.quantized_ ? (features + 3) / 4 : 0; };
    const int64_t widest = std::max(attended, inner);
    const int64_t scales = encoder_.quantized_ ? 2 : 0;
    float* next =
        workspace->Get(lanes * (2 * hidden + 4 * attended + inner + rounded(hidden) + rounded(widest) + scales));
    const auto take = [&](int64_t features) {
      const Buffer buffer{next, features};
      next += lanes * features;
      return buffer;
    };
    x_ = take(hidden), y_ = take(hidden);
    q_ = take(attended), k_ = take(attended), v_ = take(attended), context_ = take(attended);
    inner_ = take(inner);
    xq_ = take(rounded(hidden)), innerq_ = take(rounded(widest));
    x_scale_ = take(scales / 2), inner_scale_ = take(scales / 2);

    sequences_.clear(), spans_.clear(), queries_.clear(), first_queries_.clear();
    int64_t first = 0;
    for (const int64_t length : lengths) {
      const size_t begin = spans_.size();
      for (int64_t head = 0; head < encoder_.heads_; ++head) {
        for (int64_t token = first; token < first + length;) {
          const Tile& tile = tiles_[static_cast<size_t>(token / tile_tokens_)];
          const int64_t lane = token - tile.first;
          const int64_t here = std::min(first + length - token, tile.tokens - lane);
          spans_.push_back({Head(k_, tile, head) + lane, Head(v_, tile, head) + lane, Stride(tile), here});
          const Queries queries{sequences_.size(), token / tile_tokens_};
          if (head == 0) queries_.push_back(queries);
          if (head == 0 && token == first) first_queries_.push_back(queries);
          token += here;
        }
      }
      const auto count = (spans_.size() - begin) / static_cast<size_t>(encoder_.heads_);
      sequences_.push_back({first, length, begin, static_cast<int>(count)});
      first += length;
    }
  }

  // The attention of a layer, from x_ to context_.
  void Attend(const EncoderLayer& layer, const std::vector<int64_t>& heads, bool first_only) {
    const Matrix* const projections[] = {layer.q.get(), layer.k.get(), layer.v.get()};
    const Buffer projected[] = {q_, k_, v_};
    const auto tiles = static_cast<int64_t>(tiles_.size());
    const int64_t starts[] = {0, layer.q->chunks(), layer.q->chunks() + layer.k->chunks()};
    ParallelFor(parallel_, tiles * (starts[2] + layer.v->chunks()), [&](int64_t unit) {
      const int64_t chunk = unit / tiles;
      const int which = chunk < starts[1] ? 0 : chunk < starts[2] ? 1 : 2;
      Multiply(*projections[which], chunk - starts[which], tiles_[static_cast<size_t>(unit % tiles)], x_, xq_, x_scale_,
               nullptr, projected[which]);
    });
    AttendHeads(layer, heads, first_only);
  }

  // Leaves in x_ and context_, and in the tiles, only the first token of every sequence.
  void KeepFirstTokens() {
    const std::vector<Tile> from = std::move(tiles_);
    PlanTiles(static_cast<int64_t>(sequences_.size()));
    const auto compact = [&](const Buffer& all, const Buffer& kept) {
      ForTiles([&](const Tile& tile) {
        for (int64_t t = 0; t < Stride(tile); ++t) {
          // Lanes without a token repeat the last one.
          const auto sequence = static_cast<size_t>(tile.first + std::min(t, tile.tokens - 1));
          const int64_t token = sequences_[sequence].first;
          const Tile& source = from[static_cast<size_t>(token / tile_tokens_)];
          const float* const in = At(all, source) + token - source.first;
          float* const out = At(kept, tile) + t;
          for (int64_t k = 0; k < all.features; ++k) out[k * Stride(tile)] = in[k * Stride(source)];
        }
      });
    };
    compact(x_, y_), std::swap(x_, y_);
    compact(context_, q_), std::swap(context_, q_);
  }

  // The rest of a layer, from x_ and context_ to x_.
  void Feed(const EncoderLayer& layer) {
    const int64_t hidden = encoder_.features();
    if (layer.o->quantized()) {
      ForTiles([&](const Tile& tile) { Quantize(context_, encoder_.attended_, tile, innerq_, inner_scale_); });
    }
    ForChunks(*layer.o, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.o, chunk, tile, context_, innerq_, inner_scale_, &x_, y_);
    });
    ForTiles([&](const Tile& tile) {
      Normalize(y_, tile, layer.gamma1, layer.beta1, y_);
      if (layer.up->quantized()) Quantize(y_, hidden, tile, xq_, x_scale_);
    });
    ForChunks(*layer.up, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.up, chunk, tile, y_, xq_, x_scale_, nullptr, inner_);
      Activate(At(inner_, tile) + layer.up->chunk(chunk).row * Stride(tile),
               layer.up->chunk(chunk).rows * Stride(tile));
    });
    if (layer.down->quantized()) {
      ForTiles([&](const Tile& tile) { Quantize(inner_, layer.up->out_features(), tile, innerq_, inner_scale_); });
    }
    ForChunks(*layer.down, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.down, chunk, tile, inner_, innerq_, inner_scale_, &y_, x_);
    });
    ForTiles([&](const Tile& tile) {
      Normalize(x_, tile, layer.gamma2, layer.beta2, x_);
      Quantize(x_, hidden, tile, xq_, x_scale_);
    });
  }

  void AttendHeads(const EncoderLayer& layer, const std::vector<int64_t>& heads, bool first_only) {
    const std::vector<Queries>& all = first_only ? first_queries_ : queries_;
    const int64_t head_size = encoder_.attended_ / encoder_.heads_;
    const auto live = static_cast<int64_t>(heads.size());
    ParallelFor(parallel_, static_cast<int64_t>(all.size()) * live, [&](int64_t unit) {
      const Queries& queries = all[static_cast<size_t>(unit / live)];
      const int64_t head = heads[static_cast<size_t>(unit % live)];
      const Sequence& sequence = sequences_[queries.sequence];
      const Tile& tile = tiles_[static_cast<size_t>(queries.tile)];
      const int64_t begin = std::max(sequence.first - tile.first, int64_t{0});
      const int64_t end = first_only ? begin + 1 : std::min(sequence.first + sequence.tokens - tile.first, tile.tokens);
      const int64_t vector = begin / kernels_.width;
      const int64_t skipped = vector * kernels_.width;
      AttentionArgs args{};
      args.q = Head(q_, tile, head) + skipped;
      args.q_stride = args.out_stride = Stride(tile);
      args.vectors = static_cast<int>((end + kernels_.width - 1) / kernels_.width - vector);
      args.first_lane = begin - skipped;
      args.end_lane = end - skipped;
      args.spans = &spans_[sequence.spans + static_cast<size_t>(head) * static_cast<size_t>(sequence.span_count)];
      args.span_count = sequence.span_count;
      args.head_size = head_size;
      args.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
      args.out = Head(context_, tile, head) + skipped;
      args.scratch = Scratch();
      layer.attention(args);
    });
  }

  void Multiply(const Matrix& matrix, int64_t chunk, const Tile& tile, const Buffer& x, const Buffer& xq,
                const Buffer& scale, const Buffer* residual, const Buffer& y) const {
    const int64_t row = matrix.chunk(chunk).row * Stride(tile);
    const Activations activations{At(x, tile), reinterpret_cast<const uint8_t*>(At(xq, tile)), At(scale, tile),
                                  tile.vectors};
    matrix.Run(chunk, activations, residual ? At(*residual, tile) + row : nullptr, At(y, tile) + row);
  }

  void Quantize(const Buffer& x, int64_t features, const Tile& tile, const Buffer& q, const Buffer& scale) const {
    if (!encoder_.quantized_) return;
    QuantizeTile(kernels_, At(x, tile), features, tile.vectors, reinterpret_cast<uint8_t*>(At(q, tile)),
                 At(scale, tile));
  }

  void Normalize(const Buffer& x, const Tile& tile, const std::vector<float>& gamma, const std::vector<float>& beta,
                 const Buffer& y) const {
    stages_.layer_norm(At(x, tile), encoder_.features(), Stride(tile), tile.vectors, gamma.data(), beta.data(),
                       encoder_.epsilon_, At(y, tile));
  }

  void Activate(float* x, int64_t count) const {
    (encoder_.activation_ == Activation::kGelu       ? stages_.gelu
     : encoder_.activation_ == Activation::kGeluTanh ? stages_.gelu_tanh
                                                     : stages_.relu)(x, count);
  }

  template <typename Work>
  void ForTiles(Work work) const {
    ParallelFor(parallel_, static_cast<int64_t>(tiles_.size()),
                [&](int64_t i) { work(tiles_[static_cast<size_t>(i)]); });
  }

  // Tiles in the inner loop: a chunk's weights stay in cache from one to the next.
  template <typename Work>
  void ForChunks(const Matrix& matrix, Work work) const {
    const auto tiles = static_cast<int64_t>(tiles_.size());
    ParallelFor(parallel_, tiles * matrix.chunks(),
                [&](int64_t unit) { work(unit / tiles, tiles_[static_cast<size_t>(unit % tiles)]); });
  }

  int64_t Stride(const Tile& tile) const { return int64_t{tile.vectors} * kernels_.width; }
  static float* At(const Buffer& buffer, const Tile& tile) { return buffer.data + tile.first * buffer.features; }
  float* Head(const Buffer& buffer, const Tile& tile, int64_t head) const {
    return At(buffer, tile) + head * (encoder_.attended_ / encoder_.heads_) * Stride(tile);
  }

  const Encoder& encoder_;
  const Parallel& parallel_;
  const KernelTable& kernels_;
  const StageTable& stages_;
  const int64_t tile_tokens_;
  std::vector<Tile> tiles_;
  std::vector<Sequence> sequences_;
  std::vector<KeySpan> spans_;
  std::vector<Queries> queries_, first_queries_;  // of all tokens, and of each sequence's first
  Buffer x_{}, y_{}, q_{}, k_{}, v_{}, context_{}, inner_{}, xq_{}, innerq_{}, x_scale_{}, inner_scale_{};
};

void Encoder::Run(const float* hidden, const int64_t* mask, int64_t batch, int64_t sequence, float* y,
                  const Parallel& parallel) const {
  thread_local Workspace workspace;
  EncoderRun run(*this, parallel);
  std::vector<const float*> rows_in;
  std::vector<float*> rows_out;
  std::vector<int64_t> lengths;
  const auto flush = [&] {
    if (!rows_in.empty()) run.Run(rows_in, rows_out, lengths, &workspace);
    rows_in.clear(), rows_out.clear(), lengths.clear();
  };
  const int64_t width = features();
  const int64_t results = first_only_ ? 1 : sequence;  // of each sequence
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* const real = mask + b * sequence;
    float* const out = y + b * results * width;
    if (first_only_ && (sequence == 0 || real[0] == 0)) {
      std::fill(out, out + width, 0.0f);
      continue;
    }
    const int64_t length = std::count_if(real, real + sequence, [](int64_t m) { return m != 0; });
    if (static_cast<int64_t>(rows_in.size()) + length > kGroupTokens) flush();
    for (int64_t s = 0; s < sequence; ++s) {
      if (real[s] != 0) rows_in.push_back(hidden + (b * sequence + s) * width);
      if (s >= results) continue;
      float* const row = out + s * width;
      if (real[s] != 0) {
        rows_out.push_back(row);
      } else {
        std::fill(row, row + width, 0.0f);
      }
    }
    if (length > 0) lengths.push_back(length);
  }
  flush();
}

}  // namespace aerogel
