// Registration with ONNX Runtime. Exceptions become an OrtStatus with the reason.
#include <map>
#include <mutex>

#include "ort_call.h"

namespace aerogel {
namespace {

// An operator as the runtime sees it: a table of functions, each of which receives the table.
struct Entry : OrtCustomOp {
  const Api* api;
  std::unique_ptr<Operator> op;
};

const Operator& Of(const OrtCustomOp* self) { return *static_cast<const Entry*>(self)->op; }

struct OpenKernel {
  const Api* api;
  std::unique_ptr<Kernel> kernel;
};

std::unique_ptr<Entry> MakeEntry(const Api* api, std::unique_ptr<Operator> op) {
  std::unique_ptr<Entry> made(new Entry{});
  Entry& entry = *made;
  entry.api = api;
  entry.op = std::move(op);
  entry.version = ort::kApiVersion;
  entry.GetName = [](const OrtCustomOp* self) { return Of(self).name(); };
  entry.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  entry.GetInputTypeCount = [](const OrtCustomOp* self) { return Of(self).inputs(); };
  entry.GetInputType = [](const OrtCustomOp* self, size_t i) { return Of(self).input_type(i); };
  entry.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  entry.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return ort::kFloat; };
  entry.GetInputCharacteristic = [](const OrtCustomOp* self, size_t i) -> int {
    return Of(self).variadic() && i + 1 == Of(self).inputs() ? ort::kVariadic : ort::kRequired;
  };
  entry.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) -> int { return ort::kRequired; };
  entry.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> int { return ort::kMemoryDefault; };
  entry.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  entry.GetVariadicInputHomogeneity = [](const OrtCustomOp* self) { return Of(self).variadic() ? 0 : 1; };
  entry.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  entry.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  entry.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  entry.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  entry.CreateKernelV2 = [](const OrtCustomOp* self, const Api* api, const OrtKernelInfo* info, void** kernel) {
    return Guard(api, [&] {
      auto made = Of(self).Create(KernelInfoReader(api, info, Of(self).name()));
      *kernel = new OpenKernel{static_cast<const Entry*>(self)->api, std::move(made)};
    });
  };
  entry.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    const auto* open = static_cast<const OpenKernel*>(kernel);
    return Guard(open->api, [&] { open->kernel->Compute(open->api, context); });
  };
  entry.KernelDestroy = [](void* kernel) { delete static_cast<OpenKernel*>(kernel); };
  entry.InferOutputShapeFn = [](const OrtCustomOp* self, OrtShapeInferContext* context) {
    const Api* api = static_cast<const Entry*>(self)->api;
    return Guard(api, [&] { Of(self).InferShape(api, context); });
  };
  return made;
}

// The domain "aerogel" with all operators, made at the first registration with a runtime and shared by all others.
//
// It is never freed. Operators must outlive their domain, and a domain every session with whose options it was
// registered, but the runtime does not report when the last of them is closed. Destroying it with this library's static
// objects would be too early: a process may end with open sessions, or close them in destructors that run later.
OrtCustomOpDomain* DomainOf(const Api* api) {
  struct Domain {
    OrtCustomOpDomain* domain = nullptr;
    std::vector<std::unique_ptr<Entry>> entries;
  };
  static std::mutex mutex;
  static auto* domains = new std::map<const Api*, Domain>();  // a process may have several runtimes
  const std::lock_guard<std::mutex> lock(mutex);
  const auto known = domains->find(api);
  if (known != domains->end()) return known->second.domain;
  Domain made;
  std::vector<std::unique_ptr<Operator>> operators = LinearOperators();
  operators.push_back(EncoderOperator());
  for (std::unique_ptr<Operator>& op : operators) made.entries.push_back(MakeEntry(api, std::move(op)));
  AEROGEL_CALL(api, CreateCustomOpDomain, (const char*, OrtCustomOpDomain**), "aerogel", &made.domain);
  try {
    for (const std::unique_ptr<Entry>& entry : made.entries) {
      AEROGEL_CALL(api, CustomOpDomain_Add, (OrtCustomOpDomain*, const OrtCustomOp*), made.domain, entry.get());
    }
    return domains->emplace(api, std::move(made)).first->second.domain;
  } catch (...) {  // no session uses it yet
    api->Get<void (*)(OrtCustomOpDomain*)>(ort::slot::ReleaseCustomOpDomain)(made.domain);
    throw;
  }
}

}  // namespace
}  // namespace aerogel

// Called by SessionOptions.register_custom_ops_library and its equals in other languages. A runtime older than 1.17
// registers nothing, and runs models by their function bodies.
extern "C" AEROGEL_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const aerogel::ort::ApiBase* base) {
  using namespace aerogel;
  const Api* api = base->GetApi(ort::kApiVersion);
  if (!api) return nullptr;
  return Guard(api, [&] {
    AEROGEL_CALL(api, AddCustomOpDomain, (OrtSessionOptions*, OrtCustomOpDomain*), options, DomainOf(api));
  });
}
