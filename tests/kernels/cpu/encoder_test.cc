// Compares the fused encoder with float64 on every instruction set of this machine: ragged batches, masks with holes,
// mixtures of matrices. Checks that sizes that do not fit are rejected.
//
// Needs only the library, like kernel_test.
//
//   encoder_test [--seed N]
#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>

#include "encoders.h"

namespace {

using check::Encoder;
using check::Fail;
using check::Kind;
using check::kNaN;
using check::Prepared;
using check::Random;
using check::Sizes;
using Names = std::vector<const char*>;

const std::vector<Kind> kFloats = {Kind::kDense, Kind::kFloat32, Kind::kFloat16};
const std::vector<Kind> kAll(std::begin(check::kKinds), std::end(check::kKinds));

struct Batch {
  int64_t batch, sequence;
  std::vector<float> hidden;  // NaN at masked positions, which must not be read
  std::vector<int64_t> mask;
};

enum class Masks { kNone, kLengths, kHoles };

Batch MakeBatch(Random& random, int64_t features, int64_t batch, int64_t sequence, Masks masks) {
  Batch b{batch, sequence, check::Uniforms(random, batch * sequence * features), {}};
  for (int64_t i = 0; i < batch; ++i) {
    const auto length = static_cast<int64_t>(1 + random() % static_cast<uint64_t>(sequence));
    const bool nothing = masks == Masks::kHoles && random() % 4 == 0;  // a row without a token
    for (int64_t s = 0; s < sequence; ++s) {
      bool real = true;
      if (masks == Masks::kLengths) real = s < length;
      if (masks == Masks::kHoles) real = !nothing && random() % 3 != 0;
      b.mask.push_back(real ? (random() % 2 ? 1 : -7) : 0);
      if (!real) std::fill_n(b.hidden.begin() + (i * sequence + s) * features, features, kNaN);
    }
  }
  return b;
}

// tokens: result tokens per sequence; the whole sequence, or 1 if only the first token is computed.
std::vector<float> Run(const Prepared& encoder, const Batch& b, int64_t features, int threads, int64_t tokens) {
  std::vector<float> y = check::Poisoned(b.batch * tokens * features);
  if (aerogel_encoder_run(encoder.get(), b.hidden.data(), b.mask.data(), b.batch, b.sequence, y.data(), threads)) {
    Fail("run");
  }
  return y;
}

std::vector<float> Run(const Prepared& encoder, const Batch& b, int64_t features, int threads) {
  return Run(encoder, b, features, threads, b.sequence);
}

// Gathers the real tokens of one sequence.
Batch Alone(const Batch& b, int64_t features, int64_t row) {
  Batch alone{1, 0, {}, {}};
  for (int64_t s = row * b.sequence; s < (row + 1) * b.sequence; ++s) {
    if (b.mask[s] == 0) continue;
    alone.hidden.insert(alone.hidden.end(), b.hidden.begin() + s * features, b.hidden.begin() + (s + 1) * features);
    alone.mask.push_back(1);
    ++alone.sequence;
  }
  return alone;
}

// Errors of tokens, in units of float epsilon times 1 + |y|.
struct Errors {
  std::vector<double> of_tokens;  // the largest of each token
  double sum_of_squares = 0;      // of y, unscaled
  double greatest = 0;            // of y, unscaled
  double worst() const { return of_tokens.empty() ? 0 : *std::max_element(of_tokens.begin(), of_tokens.end()); }
};

// Outputs have a standard deviation near 1. A layer adds up to 18 units in thousands of cases.
constexpr double kUnits = 40;

// With int8 matrices, a difference in the last digit of an activation can round it to the next integer, which float64
// cannot predict. In the first layer this is rare and affects only one token, because the inputs of Q, K and V are
// exact. In later layers the error is about one rounding step. bfloat16 in attention causes an error of the same size
// in every layer.
void Judge(const std::string& what, const Encoder& encoder, bool bfloat16, const Errors& errors) {
  const double bound = kUnits * static_cast<double>(encoder.layers.size());
  if (!encoder.rounds()) {
    if (!(errors.worst() <= bound)) Fail(what + ": off by " + std::to_string(errors.worst()) + " units of rounding");
    return;
  }
  const auto count = static_cast<double>(errors.of_tokens.size());
  const double rms = std::sqrt(errors.sum_of_squares / std::max(count * static_cast<double>(encoder.hidden), 1.0));
  if (!(rms <= (bfloat16 ? 0.01 : 0.005)) || !(errors.greatest <= 0.1)) {
    Fail(what + ": off by " + std::to_string(rms) + " on average, " + std::to_string(errors.greatest) + " at most");
  }
  const auto exact =
      std::count_if(errors.of_tokens.begin(), errors.of_tokens.end(), [&](double error) { return error <= bound; });
  if (!bfloat16 && encoder.layers.size() == 1 && count >= 8 && static_cast<double>(exact) < 0.9 * count) {
    Fail(what + ": only " + std::to_string(exact) + " of " + std::to_string(count) + " tokens are exact");
  }
}

double worst_float = 0, worst_round = 0;

// Checks every run: correct, zero without tokens, and bit-identical for any number of threads and any other sequences
// in the batch.
void CheckBatch(const Encoder& encoder, const Batch& b, const Names& isas) {
  const int64_t features = encoder.hidden, count = b.batch * b.sequence;
  std::vector<Batch> alone;
  std::vector<std::vector<double>> expected;
  for (int64_t row = 0; row < b.batch; ++row) {
    alone.push_back(Alone(b, features, row));
    expected.push_back(Apply(encoder, alone.back().hidden.data(), alone.back().sequence));
  }
  for (const char* isa : isas) {
    const std::string what = std::string(isa) + " batch " + std::to_string(b.batch) + "x" + std::to_string(b.sequence) +
                             " " + encoder.Describe();
    std::string error;
    const Prepared prepared = encoder.Create(isa, &error);
    if (!prepared) {
      Fail(what + ": " + error);
      continue;
    }
    const std::vector<float> y = Run(prepared, b, features, 1);
    Errors errors;
    for (int64_t row = 0; row < b.batch; ++row) {
      const std::vector<float> own = Run(prepared, alone[row], features, 1);
      int64_t token = 0;
      for (int64_t s = 0; s < b.sequence; ++s) {
        const float* const got = y.data() + (row * b.sequence + s) * features;
        if (b.mask[row * b.sequence + s] == 0) {
          if (std::any_of(got, got + features, [](float v) { return v != 0; })) Fail(what + ": padding is not zero");
          continue;
        }
        double worst = 0;
        for (int64_t f = 0; f < features; ++f) {
          const double wanted = expected[row][token * features + f], off = std::fabs(got[f] - wanted);
          worst = std::max(worst, std::isnan(off) ? HUGE_VAL : off / check::kEpsilon / (1 + std::fabs(wanted)));
          errors.sum_of_squares += off * off;
          errors.greatest = std::max(errors.greatest, std::isnan(off) ? HUGE_VAL : off);
        }
        errors.of_tokens.push_back(worst);
        if (!check::SameBits(got, own.data() + token * features, features)) {
          return Fail(what + ": sequence " + std::to_string(row) + " depends on its company");
        }
        ++token;
      }
    }
    Judge(what, encoder, std::string(isa) == "avx512bf16" && encoder.rounds_attention(), errors);
    (encoder.rounds() ? worst_round : worst_float) =
        std::max(encoder.rounds() ? worst_round : worst_float,
                 encoder.rounds() ? errors.greatest : errors.worst() / static_cast<double>(encoder.layers.size()));
    Encoder short_of = encoder;
    short_of.first_token_only = 1;
    const Prepared first = short_of.Create(isa, &error);
    const std::vector<float> rows = Run(first, b, features, 3, 1);
    const std::vector<float> zeros(static_cast<size_t>(features));
    for (int64_t row = 0; row < b.batch; ++row) {
      const float* const wanted = b.sequence > 0 ? y.data() + row * b.sequence * features : zeros.data();
      if (!check::SameBits(rows.data() + row * features, wanted, features)) {
        return Fail(what + ": the first token of sequence " + std::to_string(row) + " depends on the others' results");
      }
    }
    for (const int threads : {2, 3, 8}) {
      if (!check::SameBits(y.data(), Run(prepared, b, features, threads).data(), count * features)) {
        Fail(what + ": depends on threads");
      }
    }
  }
}

// Odd sizes, every activation, every mixture.
void CheckShapes(Random& random, const Names& isas) {
  const Sizes sizes[] = {{8, 1, 8, 8, 1},     {8, 2, 4, 20, 2},   {15, 3, 5, 31, 1},  {24, 4, 6, 96, 3},
                         {33, 3, 11, 64, 2},  {40, 3, 8, 50, 1},  {64, 4, 16, 70, 1}, {96, 3, 32, 130, 1},
                         {20, 4, 13, 1, 2},   {12, 4, 1, 48, 1},  {1, 1, 1, 1, 1},    {17, 1, 33, 300, 1},
                         {72, 4, 18, 288, 1}, {96, 1, 65, 96, 1}, {16, 2, 8, 64, 3},  {48, 4, 12, 100, 2}};
  const int64_t sequences[] = {1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 48, 63, 64, 65, 70, 100};
  size_t turn = 0;
  for (const Sizes& size : sizes) {
    for (const int activation : {AEROGEL_GELU, AEROGEL_GELU_TANH, AEROGEL_RELU}) {
      for (const auto& kinds : {kFloats, kAll, std::vector<Kind>{kAll[turn % 4]}}) {
        const Encoder encoder = MakeEncoder(random, size, kinds, activation);
        const int64_t sequence = sequences[turn * 7 % 16], batch = 1 + static_cast<int64_t>(turn) % 5;
        const Masks masks[] = {Masks::kNone, Masks::kLengths, Masks::kHoles};
        CheckBatch(encoder, MakeBatch(random, size.hidden, batch, sequence, masks[turn / 2 % 3]), isas);
        ++turn;
      }
    }
  }
}

// More keys than one block of attention, more tokens than one group of sequences, a long sequence among short ones.
void CheckLong(Random& random, const Names& isas) {
  const struct {
    Sizes sizes;
    int64_t batch, sequence;
    Masks masks;
  } cases[] = {{{32, 2, 16, 64, 2}, 1, 300, Masks::kNone},
               {{24, 2, 12, 40, 1}, 5, 300, Masks::kLengths},
               {{8, 1, 8, 16, 1}, 2, 600, Masks::kHoles},
               {{16, 2, 8, 16, 1}, 1, 700, Masks::kNone},
               {{16, 4, 4, 24, 2}, 4, 257, Masks::kLengths}};
  for (const auto& c : cases) {
    for (const auto& kinds : {kFloats, kAll}) {
      const Encoder encoder = MakeEncoder(random, c.sizes, kinds, AEROGEL_GELU);
      Batch b = MakeBatch(random, c.sizes.hidden, c.batch, c.sequence, c.masks);
      CheckBatch(encoder, b, isas);
    }
  }
}

// Empty inputs of every form.
void CheckEmpty(Random& random, const Names& isas) {
  const Encoder encoder = MakeEncoder(random, {16, 2, 8, 20, 2}, kAll, AEROGEL_GELU);
  Batch masked = MakeBatch(random, 16, 3, 9, Masks::kNone);
  std::fill(masked.mask.begin(), masked.mask.end(), 0);
  for (const Batch& b : {masked, Batch{0, 5, {}, {}}, Batch{5, 0, {}, {}}}) CheckBatch(encoder, b, isas);
}

// Calls one encoder from several threads at once.
void CheckConcurrency(Random& random, const Names& isas) {
  const Encoder encoder = MakeEncoder(random, {32, 2, 16, 64, 2}, kAll, AEROGEL_GELU);
  for (const char* isa : isas) {
    std::string error;
    const Prepared prepared = encoder.Create(isa, &error);
    std::vector<Batch> batches;
    std::vector<std::vector<float>> alone, among(4);
    for (int64_t i = 0; i < 4; ++i) {
      batches.push_back(MakeBatch(random, 32, 1 + i, 40, Masks::kLengths));
      alone.push_back(Run(prepared, batches.back(), 32, 1));
    }
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        for (int times = 0; times < 5; ++times) among[i] = Run(prepared, batches[i], 32, 2);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < 4; ++i) {
      if (!check::SameBits(alone[i].data(), among[i].data(), static_cast<int64_t>(alone[i].size()))) {
        Fail(std::string(isa) + ": a call depends on others at the same time");
      }
    }
  }
}

void CheckRefusals(Random& random) {
  const Sizes sizes = {16, 2, 8, 20, 2};
  const auto refused = [&](const std::string& reason, const std::function<void(Encoder*)>& change) {
    Encoder encoder = MakeEncoder(random, sizes, kFloats, AEROGEL_GELU);
    change(&encoder);
    std::string error;
    if (encoder.Create(nullptr, &error)) return Fail("accepted where '" + reason + "' was expected");
    if (error.find(reason) == std::string::npos) Fail("said '" + error + "' where '" + reason + "' was expected");
  };
  refused("3 heads do not divide 16 features", [](Encoder* e) { e->heads = 3; });
  refused("0 heads do not divide", [](Encoder* e) { e->heads = 0; });
  refused("-2 heads do not divide", [](Encoder* e) { e->heads = -2; });
  refused("attribute epsilon is -1e-09; it must be finite and not negative", [](Encoder* e) { e->epsilon = -1e-9f; });
  for (const float epsilon : {kNaN, INFINITY, -INFINITY}) {
    refused("it must be finite and not negative", [&](Encoder* e) { e->epsilon = epsilon; });
  }
  refused("unknown activation 3", [](Encoder* e) { e->activation = 3; });
  refused("unknown activation -1", [](Encoder* e) { e->activation = -1; });
  refused("there is no layer", [](Encoder* e) { e->layers.clear(); });
  const char* const names[] = {"q", "k", "v", "o", "ffn1", "ffn2"};
  const int64_t out[] = {16, 16, 16, 16, 20, 16}, in[] = {16, 16, 16, 16, 16, 20};
  for (size_t i = 0; i < 6; ++i) {
    for (const Kind kind : check::kKinds) {
      const auto replaced = [&](int64_t rows, int64_t columns, const std::string& reason) {
        refused(reason, [&](Encoder* e) {
          *e->layers[1].matrices()[i] = check::Make(random, kind, rows, columns, 1, 1, 0.5, false);
        });
      };
      const std::string size = std::to_string(out[i]) + "x" + std::to_string(in[i]);
      // ffn1 determines the size between the last two matrices.
      const std::string name = i == 4 ? "ffn2 is 16x20, not 16x22" : std::string(names[i]) + " is ";
      replaced(out[i] + 2, in[i], "layer 1: " + (i == 4 ? name : name + std::to_string(out[i] + 2)));
      // gamma must have as many entries as q has columns.
      replaced(out[i], in[i] - 2,
               "layer 1: " + std::string(names[i]) + " is " + std::to_string(out[i]) + "x" + std::to_string(in[i] - 2) +
                   ", not " + size);
    }
  }
  refused("ffn1: indptr must run from 0 to", [&](Encoder* e) {
    e->layers[0].ffn1 = check::Make(random, Kind::kFloat32, 20, 16, 1, 1, 0.5, false);
    e->layers[0].ffn1.indptr[0] = 1;
  });
  refused("o: dimension 1099511627776 is not in [1, 2147483647]",
          [](Encoder* e) { e->layers[0].o.out = int64_t{1} << 40; });
  refused("heads of 4096 features are too large", [&](Encoder* e) {
    e->heads = 1;
    for (check::Layer& layer : e->layers) {
      for (check::Matrix* m : {&layer.q, &layer.k, &layer.v}) {
        *m = check::Make(random, Kind::kFloat32, 4096, 16, 1, 1, 0.0, false);
      }
      layer.o = check::Make(random, Kind::kFloat32, 16, 4096, 1, 1, 0.0, false);
    }
  });
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = check::Option(argc, argv, "--seed", 1);
  Random random(seed);
  const Names isas = check::Isas();
  CheckEmpty(random, isas);
  CheckShapes(random, isas);
  CheckLong(random, isas);
  CheckConcurrency(random, isas);
  CheckRefusals(random);
  std::printf("greatest errors: %.1f units of rounding a layer; where weights have eight bits, %.4f\n", worst_float,
              worst_round);
  return check::Finish(seed);
}
