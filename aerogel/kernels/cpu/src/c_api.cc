#include "c_api.h"

#include <atomic>
#include <cstring>
#include <exception>
#include <limits>
#include <thread>
#include <vector>

#include "bitmask.h"
#include "dispatch.h"
#include "encoder.h"
#include "sparse_linear.h"

struct AerogelLinear {
  aerogel::SparseLinear linear;
};

struct AerogelEncoder {
  std::unique_ptr<aerogel::Encoder> encoder;
};

namespace {

using aerogel::IsaAt;
using aerogel::KernelTable;
using aerogel::kIsaCount;
using aerogel::Matrix;

// Copies a message into the caller's buffer, cut to its size.
void SetError(const std::string& message, char* error, size_t size) {
  if (!error || size == 0) return;
  const size_t length = message.size() < size ? message.size() : size - 1;
  std::memcpy(error, message.data(), length);
  error[length] = '\0';
}

// Whether an array can be read or written at an address.
bool Usable(const void* address, size_t alignment) {
  return address && reinterpret_cast<uintptr_t>(address) % alignment == 0;
}

// Why an array cannot be read; empty if it can.
std::string Unusable(const std::string& name, const void* address, size_t alignment) {
  if (Usable(address, alignment)) return {};
  return address ? name + " lies at an address that is not a multiple of " + std::to_string(alignment)
                 : name + " is missing";
}

// Why an array of a matrix cannot be read; empty if all can that are needed. vectors: whether scale and bias are.
std::string Unusable(const AerogelMatrix& m, bool vectors = true) {
  const bool sparse = m.indptr, entries = m.entries > 0;
  const struct {
    const char* name;
    const void* address;
    size_t alignment;
    bool needed;
  } arrays[] = {{"data", m.data, 1, !sparse || entries},
                {"indices", m.indices, m.wide_indices ? sizeof(int32_t) : sizeof(uint16_t), sparse && entries},
                {"indptr", m.indptr, sizeof(int32_t), sparse},
                {"scale", m.scale, sizeof(float), vectors && sparse && m.dtype == AEROGEL_INT8},
                {"bias", m.bias, sizeof(float), vectors}};
  std::string reason;
  for (const auto& array : arrays) {
    if (array.needed && reason.empty()) reason = Unusable(array.name, array.address, array.alignment);
  }
  return reason;
}

// Why an array of a layer cannot be read; empty if all can.
std::string Unusable(const AerogelEncoderLayer& layer) {
  const AerogelMatrix* const matrices[] = {&layer.q, &layer.k, &layer.v, &layer.o, &layer.ffn1, &layer.ffn2};
  for (size_t i = 0; i < 6; ++i) {
    const std::string reason = Unusable(*matrices[i]);
    if (!reason.empty()) return std::string(aerogel::kMatrixNames[i]) + ": " + reason;
  }
  std::string reason;
  for (const auto& [name, vector] :
       {std::pair{"gamma1", layer.gamma1}, {"beta1", layer.beta1}, {"gamma2", layer.gamma2}, {"beta2", layer.beta2}}) {
    if (reason.empty()) reason = Unusable(name, vector, sizeof(float));
  }
  return reason;
}

// Threads that live for one call. Inside ONNX Runtime the session's own pool is used instead.
class Threads final : public aerogel::Parallel {
 public:
  explicit Threads(int count) : count_(count) {}
  void For(size_t count, Body body, void* argument) const override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i; (i = next.fetch_add(1)) < count;) body(argument, i);
    };
    std::vector<std::thread> others;
    // If a thread cannot be started the others do its work.
    try {
      for (int i = 1; i < count_ && static_cast<size_t>(i) < count; ++i) others.emplace_back(work);
    } catch (const std::exception&) {
    }
    work();
    for (std::thread& thread : others) thread.join();
  }

 private:
  int count_;
};

// Calls make(kernels, message) with the kernels that `isa` names. Returns null, with the reason in `error`, if that
// fails, sets a message and returns null, or throws.
template <typename Made, typename Make>
Made* Create(const char* isa, char* error, size_t error_size, Make make) {
  try {
    std::string message;
    const KernelTable* kernels = isa ? aerogel::SelectIsa(isa, &message) : aerogel::DefaultIsa(&message);
    if (kernels) {
      if (Made* made = make(*kernels, &message)) return made;
    }
    SetError(message, error, error_size);
  } catch (const std::exception& e) {
    SetError(e.what(), error, error_size);
  }
  return nullptr;
}

// Runs `body`; 1 if it throws, which is std::bad_alloc.
template <typename Body>
int Run(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

}  // namespace

int aerogel_isa_count(void) { return kIsaCount; }

const char* aerogel_isa(int i, const char** reason) {
  if (i < 0 || i >= kIsaCount) return nullptr;
  if (reason) *reason = IsaAt(i).reason;
  return IsaAt(i).name;
}

const char* aerogel_isa_selected(char* error, size_t error_size) {
  try {
    std::string message;
    const aerogel::KernelTable* kernels = aerogel::DefaultIsa(&message);
    if (kernels) return kernels->name;
    SetError(message, error, error_size);
  } catch (const std::exception& e) {
    SetError(e.what(), error, error_size);
  }
  return nullptr;
}

int aerogel_matrix_stats(const AerogelMatrix* matrix, const char* isa, AerogelMatrixStats* stats, char* error,
                         size_t error_size) {
  const auto* filled = Create<AerogelMatrixStats>(
      isa, error, error_size, [&](const KernelTable& kernels, std::string* message) -> AerogelMatrixStats* {
        *message = !matrix ? "matrix is missing" : !matrix->indptr ? "matrix is dense" : Unusable(*matrix, false);
        if (!message->empty()) return nullptr;
        aerogel::PackedMatrix packed;
        const aerogel::Status status = aerogel::PackFor(kernels, *matrix, nullptr, &packed);
        *message = status.ToString();
        if (!status.ok()) return nullptr;
        *stats = aerogel::StatsOf(packed, matrix->entries * matrix->block_rows * matrix->block_cols);
        return stats;
      });
  return filled ? 0 : 1;
}

int aerogel_bitmask_unpack(const uint8_t* bits, int64_t rows, int64_t columns, int64_t entries, int32_t* indptr,
                           int32_t* indices, char* error, size_t error_size) {
  std::string message = aerogel::ValidateSizes(rows, columns).message;
  if (message.empty() && (entries < 0 || entries > std::numeric_limits<int32_t>::max())) {
    message = std::to_string(entries) + " entries are not in [0, 2147483647]";
  }
  if (message.empty()) message = Unusable("bits", bits, 1);
  if (message.empty()) message = Unusable("indptr", indptr, sizeof(int32_t));
  if (message.empty() && entries > 0) message = Unusable("indices", indices, sizeof(int32_t));
  if (message.empty()) {
    message = aerogel::UnpackBitmask(bits, rows, columns, entries, indptr, indices);
    if (!message.empty()) message = "bitmask " + message;
  }
  SetError(message, error, error_size);
  return message.empty() ? 0 : 1;
}

AerogelLinear* aerogel_linear_create(const AerogelMatrix* matrix, const char* isa, char* error, size_t error_size) {
  return Create<AerogelLinear>(isa, error, error_size, [&](const KernelTable& kernels, std::string* message) {
    *message = matrix ? Unusable(*matrix) : "matrix is missing";
    if (!message->empty()) return static_cast<AerogelLinear*>(nullptr);
    aerogel::Status status;
    auto made = Matrix::Create(*matrix, kernels, &status);
    *message = status.ToString();
    return made ? new AerogelLinear{aerogel::SparseLinear(std::move(made))} : nullptr;
  });
}

int aerogel_linear_run(const AerogelLinear* linear, const float* x, int64_t tokens, float* y, int threads) {
  if (tokens < 0 || (tokens > 0 && !(Usable(x, sizeof *x) && Usable(y, sizeof *y)))) return 2;
  return Run([&] { linear->linear.Run(x, tokens, y, Threads(threads)); });
}

void aerogel_linear_destroy(AerogelLinear* linear) { delete linear; }

AerogelEncoder* aerogel_encoder_create(const AerogelEncoderLayer* layers, int64_t count, int64_t heads, float epsilon,
                                       int activation, int first_token_only, const char* isa, char* error,
                                       size_t error_size) {
  return Create<AerogelEncoder>(
      isa, error, error_size, [&](const KernelTable& kernels, std::string* message) -> AerogelEncoder* {
        if (activation < AEROGEL_GELU || activation > AEROGEL_RELU) {
          *message = "unknown activation " + std::to_string(activation);
          return nullptr;
        }
        std::vector<aerogel::EncoderLayer> made;
        for (int64_t i = 0; i < count; ++i) {
          *message = Unusable(layers[i]);
          if (!message->empty()) return nullptr;
          aerogel::LayerStatus checked;
          made.push_back(aerogel::MakeLayer(layers[i], kernels, &checked));
          if (!checked.status.ok()) {
            *message = std::string(aerogel::kMatrixNames[checked.matrix]) + ": " + checked.status.ToString();
            return nullptr;
          }
        }
        auto encoder =
            aerogel::Encoder::Create(std::move(made), heads, epsilon, static_cast<aerogel::Activation>(activation),
                                     first_token_only != 0, message);
        return encoder ? new AerogelEncoder{std::move(encoder)} : nullptr;
      });
}

int aerogel_encoder_run(const AerogelEncoder* encoder, const float* hidden, const int64_t* mask, int64_t batch,
                        int64_t sequence, float* y, int threads) {
  const bool tokens = batch > 0 && sequence > 0,
             results = tokens || (batch > 0 && encoder->encoder->first_token_only());
  if (batch < 0 || sequence < 0 || (results && !Usable(y, sizeof *y)) ||
      (tokens && !(Usable(hidden, sizeof *hidden) && Usable(mask, sizeof *mask)))) {
    return 2;
  }
  return Run([&] { encoder->encoder->Run(hidden, mask, batch, sequence, y, Threads(threads)); });
}

void aerogel_encoder_destroy(AerogelEncoder* encoder) { delete encoder; }
