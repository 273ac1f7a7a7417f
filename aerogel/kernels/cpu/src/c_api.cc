#include "c_api.h"

#include <atomic>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "sparse_linear.h"

struct AerogelLinear {
  std::unique_ptr<aerogel::SparseLinear> linear;
};

namespace {

using aerogel::IsaAt;
using aerogel::kIsaCount;

void Say(const std::string& message, char* error, size_t size) {
  if (size == 0) return;
  const size_t length = message.size() < size ? message.size() : size - 1;
  std::memcpy(error, message.data(), length);
  error[length] = '\0';
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
    // A thread that cannot be started is no error: the others do its share.
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

}  // namespace

int aerogel_isa_count(void) { return kIsaCount; }

const char* aerogel_isa(int i, const char** reason) {
  if (i < 0 || i >= kIsaCount) return nullptr;
  *reason = IsaAt(i).reason;
  return IsaAt(i).name;
}

const char* aerogel_isa_selected(char* error, size_t error_size) {
  try {
    std::string message;
    const aerogel::KernelTable* kernels = aerogel::DefaultIsa(&message);
    if (kernels) return kernels->name;
    Say(message, error, error_size);
  } catch (const std::exception& e) {
    Say(e.what(), error, error_size);
  }
  return nullptr;
}

AerogelLinear* aerogel_linear_create(int64_t out_features, int64_t in_features, int64_t block_rows, int64_t block_cols,
                                     int64_t entries, const float* data, const void* indices, int wide_indices,
                                     const int32_t* indptr, const float* bias, const char* isa, char* error,
                                     size_t error_size) {
  try {
    std::string message;
    const aerogel::KernelTable* kernels = isa ? aerogel::SelectIsa(isa, &message) : aerogel::DefaultIsa(&message);
    if (kernels) {
      auto linear = aerogel::SparseLinear::Create(
          {out_features, in_features, block_rows, block_cols, entries, data, indices, wide_indices != 0, indptr}, bias,
          *kernels, &message);
      if (linear) return new AerogelLinear{std::move(linear)};
    }
    Say(message, error, error_size);
  } catch (const std::exception& e) {
    Say(e.what(), error, error_size);
  }
  return nullptr;
}

int aerogel_linear_run(const AerogelLinear* linear, const float* x, int64_t tokens, float* y, int threads) {
  try {
    linear->linear->Run(x, tokens, y, Threads(threads));
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

void aerogel_linear_destroy(AerogelLinear* linear) { delete linear; }
