// Runs the layers of an encoder on a group of sequences: the plan of tiles, the workspace, and the steps of a layer.
// encoder.h has the formulas. Only encoder.cc includes this file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "encoder.h"
#include "thread_memory.h"

namespace aerogel {

// One group of sequences on its way through the layers.
class EncoderRun {
 public:
  EncoderRun(const Encoder& encoder, const Parallel& parallel)
      : encoder_(encoder),
        parallel_(parallel),
        kernels_(encoder.layers_[0].q->kernels()),
        elementwise_(*kernels_.elementwise),
        tile_tokens_(int64_t{kTileVectors} * kernels_.width) {}

  // Runs all layers on a group of sequences. rows_in: each token's row of the caller's `hidden`. rows_out: the row of
  // `y` of each token that the last layer computes. lengths: tokens of each sequence.
  void Run(const std::vector<const float*>& rows_in, const std::vector<float*>& rows_out,
           const std::vector<int64_t>& lengths, GrowingBuffer* buffer) {
    PlanTiles(static_cast<int64_t>(rows_in.size()));
    Allocate(buffer);
    PlanAttention(lengths);
    ForTiles([&](const Tile& tile) {
      elementwise_.gather_rows(&rows_in[static_cast<size_t>(tile.first)], tile.tokens, encoder_.features(),
                               tile.vectors, At(w_.hidden, tile));
      Quantize(w_.hidden, encoder_.features(), tile, w_.hidden_q8);
    });
    for (size_t i = 0; i < encoder_.layers_.size(); ++i) {
      const bool first_token_only = encoder_.first_token_only_ && i + 1 == encoder_.layers_.size();
      Project(encoder_.layers_[i]);
      Attend(encoder_.layers_[i], encoder_.live_heads_[i], first_token_only);
      if (first_token_only) KeepFirstTokens();
      FeedForward(encoder_.layers_[i]);
    }
    ForTiles([&](const Tile& tile) {
      elementwise_.scatter_rows(At(w_.hidden, tile), Stride(tile), tile.tokens, encoder_.features(),
                                &rows_out[static_cast<size_t>(tile.first)]);
    });
  }

 private:
  // Tokens [first, first + tokens) of the group.
  struct Tile {
    int64_t first;
    int64_t tokens;
    int vectors;
  };

  // One sequence: tokens [first, first + tokens) of the group.
  struct Sequence {
    int64_t first;
    int64_t tokens;
    size_t spans;    // index of its first span; the spans of all heads follow, span_count each
    int span_count;  // of a head
  };

  // The queries of one sequence that lie in one tile.
  struct Queries {
    size_t sequence;
    int64_t tile;
  };

  // An activation tensor of all tiles, one tile after the other: of each [features][stride].
  struct Buffer {
    float* data;
    int64_t features;
  };

  // Activations rounded to eight bits, with a scale per token.
  struct QuantizedBuffer {
    Buffer q;  // of each tile [ceil(features / 4)][stride][4] bytes
    Buffer scale;
  };

  // The activations of a group of sequences in one layer. h is the layer's input; encoder.h has the formulas.
  struct Workspace {
    Buffer hidden;          // [hidden] h, and the layer's result
    Buffer post_attention;  // [hidden] x1 = LN(h + context Wo^T + bo)
    Buffer q, k, v;         // [qkv_dim]
    Buffer context;         // [qkv_dim] softmax(Q K^T / sqrt(d)) V
    Buffer ffn;             // [ffn_dim] act(x1 W1^T + b1)
    // Inputs of matrices with eight-bit weights. The two of a line share memory: the second is written when the first
    // is no longer needed.
    QuantizedBuffer hidden_q8, post_attention_q8;
    QuantizedBuffer context_q8, ffn_q8;
  };

  void PlanTiles(int64_t tokens) {
    tiles_.clear();
    for (int64_t first = 0; first < tokens; first += tile_tokens_) {
      const int64_t here = std::min(tile_tokens_, tokens - first);
      tiles_.push_back({first, here, VectorsFor(here, kernels_.width)});
    }
  }

  // Lays out the workspace for the tiles.
  void Allocate(GrowingBuffer* buffer) {
    const int64_t lanes = static_cast<int64_t>(tiles_.size()) * tile_tokens_;
    const int64_t hidden = encoder_.features(), qkv_dim = encoder_.qkv_dim_, ffn_dim = encoder_.ffn_dim_;
    // Floats per lane of eight-bit activations, and of their scales.
    const auto quantized = [&](int64_t features) { return encoder_.quantized_ ? (features + 3) / 4 : 0; };
    const int64_t scale = encoder_.quantized_ ? 1 : 0;
    const int64_t widest = std::max(qkv_dim, ffn_dim);
    float* next =
        buffer->Get(lanes * (2 * hidden + 4 * qkv_dim + ffn_dim + quantized(hidden) + quantized(widest) + 2 * scale));
    const auto take = [&](int64_t features) {
      const Buffer taken{next, features};
      next += lanes * features;
      return taken;
    };
    w_.hidden = take(hidden), w_.post_attention = take(hidden);
    w_.q = take(qkv_dim), w_.k = take(qkv_dim), w_.v = take(qkv_dim), w_.context = take(qkv_dim);
    w_.ffn = take(ffn_dim);
    w_.hidden_q8.q = take(quantized(hidden)), w_.context_q8.q = take(quantized(widest));
    w_.hidden_q8.scale = take(scale), w_.context_q8.scale = take(scale);
    w_.post_attention_q8 = w_.hidden_q8;
    w_.ffn_q8 = w_.context_q8;
  }

  // Lists the keys and the queries of each sequence by the tiles that they lie in.
  void PlanAttention(const std::vector<int64_t>& lengths) {
    sequences_.clear(), spans_.clear(), queries_.clear(), first_queries_.clear();
    int64_t first = 0;
    for (const int64_t length : lengths) {
      const size_t begin = spans_.size();
      for (int64_t head = 0; head < encoder_.heads_; ++head) {
        for (int64_t token = first; token < first + length;) {
          const Tile& tile = tiles_[static_cast<size_t>(token / tile_tokens_)];
          const int64_t lane = token - tile.first;
          const int64_t here = std::min(first + length - token, tile.tokens - lane);
          spans_.push_back({Head(w_.k, tile, head) + lane, Head(w_.v, tile, head) + lane, Stride(tile), here});
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

  // q, k and v of a layer, from hidden.
  void Project(const EncoderLayer& layer) {
    const Matrix* const projections[] = {layer.q.get(), layer.k.get(), layer.v.get()};
    const Buffer projected[] = {w_.q, w_.k, w_.v};
    const auto tiles = static_cast<int64_t>(tiles_.size());
    const int64_t first_chunks[] = {0, layer.q->chunks(), layer.q->chunks() + layer.k->chunks()};
    ParallelFor(parallel_, tiles * (first_chunks[2] + layer.v->chunks()), [&](int64_t unit) {
      const int64_t chunk = unit / tiles;
      const int which = chunk < first_chunks[1] ? 0 : chunk < first_chunks[2] ? 1 : 2;
      Multiply(*projections[which], chunk - first_chunks[which], tiles_[static_cast<size_t>(unit % tiles)], w_.hidden,
               w_.hidden_q8, nullptr, projected[which]);
    });
  }

  // Reduces hidden and context, and the tiles, to the first token of every sequence. The results are written to buffers
  // that are not in use then.
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
    compact(w_.hidden, w_.post_attention), std::swap(w_.hidden, w_.post_attention);
    compact(w_.context, w_.q), std::swap(w_.context, w_.q);
  }

  // The rest of a layer: from hidden and context to hidden.
  void FeedForward(const EncoderLayer& layer) {
    const int64_t hidden = encoder_.features();
    if (layer.o->quantized()) {
      ForTiles([&](const Tile& tile) { Quantize(w_.context, encoder_.qkv_dim_, tile, w_.context_q8); });
    }
    ForChunks(*layer.o, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.o, chunk, tile, w_.context, w_.context_q8, &w_.hidden, w_.post_attention);
    });
    ForTiles([&](const Tile& tile) {
      Normalize(w_.post_attention, tile, layer.gamma1, layer.beta1);
      if (layer.ffn1->quantized()) Quantize(w_.post_attention, hidden, tile, w_.post_attention_q8);
    });
    ForChunks(*layer.ffn1, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.ffn1, chunk, tile, w_.post_attention, w_.post_attention_q8, nullptr, w_.ffn);
      Activate(At(w_.ffn, tile) + layer.ffn1->chunk(chunk).row * Stride(tile),
               layer.ffn1->chunk(chunk).rows * Stride(tile));
    });
    if (layer.ffn2->quantized()) {
      ForTiles([&](const Tile& tile) { Quantize(w_.ffn, layer.ffn1->out_features(), tile, w_.ffn_q8); });
    }
    ForChunks(*layer.ffn2, [&](int64_t chunk, const Tile& tile) {
      Multiply(*layer.ffn2, chunk, tile, w_.ffn, w_.ffn_q8, &w_.post_attention, w_.hidden);
    });
    ForTiles([&](const Tile& tile) {
      Normalize(w_.hidden, tile, layer.gamma2, layer.beta2);
      Quantize(w_.hidden, hidden, tile, w_.hidden_q8);
    });
  }

  // context of a layer, from q, k and v. heads: those to compute. first_token_only: only for each sequence's first
  // token.
  void Attend(const EncoderLayer& layer, const std::vector<int64_t>& heads, bool first_token_only) {
    const std::vector<Queries>& all = first_token_only ? first_queries_ : queries_;
    const int64_t head_size = encoder_.qkv_dim_ / encoder_.heads_;
    const auto live = static_cast<int64_t>(heads.size());
    ParallelFor(parallel_, static_cast<int64_t>(all.size()) * live, [&](int64_t unit) {
      const Queries& queries = all[static_cast<size_t>(unit / live)];
      const int64_t head = heads[static_cast<size_t>(unit % live)];
      const Sequence& sequence = sequences_[queries.sequence];
      const Tile& tile = tiles_[static_cast<size_t>(queries.tile)];
      const int64_t begin = std::max(sequence.first - tile.first, int64_t{0});
      const int64_t end =
          first_token_only ? begin + 1 : std::min(sequence.first + sequence.tokens - tile.first, tile.tokens);
      const int64_t vector = begin / kernels_.width;
      const int64_t skipped = vector * kernels_.width;
      AttentionArgs args{};
      args.q = Head(w_.q, tile, head) + skipped;
      args.q_stride = args.out_stride = Stride(tile);
      args.vectors = static_cast<int>((end + kernels_.width - 1) / kernels_.width - vector);
      args.first_lane = begin - skipped;
      args.end_lane = end - skipped;
      args.spans = &spans_[sequence.spans + static_cast<size_t>(head) * static_cast<size_t>(sequence.span_count)];
      args.span_count = sequence.span_count;
      args.head_size = head_size;
      args.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
      args.out = Head(w_.context, tile, head) + skipped;
      args.scratch = ThreadScratch();
      layer.attention(args);
    });
  }

  // y = x W^T + b (+ residual) for a chunk of the rows of W and a tile; x_q8 is x rounded, where W has eight-bit
  // weights.
  void Multiply(const Matrix& matrix, int64_t chunk, const Tile& tile, const Buffer& x, const QuantizedBuffer& x_q8,
                const Buffer* residual, const Buffer& y) const {
    const int64_t row = matrix.chunk(chunk).row * Stride(tile);
    const Activations activations{At(x, tile), reinterpret_cast<const uint8_t*>(At(x_q8.q, tile)), At(x_q8.scale, tile),
                                  tile.vectors};
    matrix.Run(chunk, activations, residual ? At(*residual, tile) + row : nullptr, At(y, tile) + row);
  }

  // Rounds a tile of x [features] to eight bits, if any matrix takes such activations.
  void Quantize(const Buffer& x, int64_t features, const Tile& tile, const QuantizedBuffer& x_q8) const {
    if (!encoder_.quantized_) return;
    QuantizeTile(kernels_, At(x, tile), features, tile.vectors, reinterpret_cast<uint8_t*>(At(x_q8.q, tile)),
                 At(x_q8.scale, tile));
  }

  // LayerNorm of a tile of x [hidden], in place.
  void Normalize(const Buffer& x, const Tile& tile, const std::vector<float>& gamma,
                 const std::vector<float>& beta) const {
    elementwise_.layer_norm(At(x, tile), encoder_.features(), Stride(tile), tile.vectors, gamma.data(), beta.data(),
                            encoder_.epsilon_, At(x, tile));
  }

  void Activate(float* x, int64_t count) const {
    (encoder_.activation_ == Activation::kGelu       ? elementwise_.gelu
     : encoder_.activation_ == Activation::kGeluTanh ? elementwise_.gelu_tanh
                                                     : elementwise_.relu)(x, count);
  }

  template <typename Work>
  void ForTiles(Work work) const {
    ParallelFor(parallel_, static_cast<int64_t>(tiles_.size()),
                [&](int64_t i) { work(tiles_[static_cast<size_t>(i)]); });
  }

  // Calls work(chunk, tile) for all chunks and tiles. Tiles are the inner loop: a chunk's weights stay in cache from
  // one to the next.
  template <typename Work>
  void ForChunks(const Matrix& matrix, Work work) const {
    const auto tiles = static_cast<int64_t>(tiles_.size());
    ParallelFor(parallel_, tiles * matrix.chunks(),
                [&](int64_t unit) { work(unit / tiles, tiles_[static_cast<size_t>(unit % tiles)]); });
  }

  // Lanes of a tile: the distance between its features.
  int64_t Stride(const Tile& tile) const { return int64_t{tile.vectors} * kernels_.width; }
  // A tile's part of a buffer, and in it the first feature of a head.
  static float* At(const Buffer& buffer, const Tile& tile) { return buffer.data + tile.first * buffer.features; }
  float* Head(const Buffer& buffer, const Tile& tile, int64_t head) const {
    return At(buffer, tile) + head * (encoder_.qkv_dim_ / encoder_.heads_) * Stride(tile);
  }

  const Encoder& encoder_;
  const Parallel& parallel_;
  const KernelTable& kernels_;
  const ElementwiseTable& elementwise_;
  const int64_t tile_tokens_;
  std::vector<Tile> tiles_;
  std::vector<Sequence> sequences_;
  std::vector<KeySpan> spans_;
  std::vector<Queries> queries_, first_queries_;  // of all tokens, and of each sequence's first
  Workspace w_{};
};

}  // namespace aerogel
