// The library as ONNX Runtime sees it: the operators aerogel::CsrLinear_v1 and aerogel::BsrLinear_v1.
//
//   y = x W^T + b      inputs x, data, indices, indptr, bias; attribute in_features; output y
//
// W is checked and prepared once, when the session is created; a malformed one is refused there. No exception leaves
// this file: each becomes an OrtStatus with the reason.
#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "c_api.h"
#include "dispatch.h"
#include "ort_abi.h"
#include "sparse_linear.h"

namespace aerogel {
namespace {

using ort::Api;

enum Input : size_t { kX, kData, kIndices, kIndptr, kBias, kInputs };
constexpr const char* kInputNames[kInputs] = {"x", "data", "indices", "indptr", "bias"};

// A failed call of the runtime's interface; carries the status up to the edge of the library.
struct Failure {
  OrtStatus* status;
};

OrtStatus* Status(const Api* api, const std::string& message) {
  return api->Get<OrtStatus* (*)(int, const char*)>(ort::slot::CreateStatus)(ort::kInvalidArgument, message.c_str());
}

// Calls a function of the interface that answers with a status; throws Failure when it answers with one.
template <typename... Parameters, typename... Arguments>
void Call(const Api* api, int slot, OrtStatus* (*)(Parameters...), Arguments... arguments) {
  if (OrtStatus* status = api->Get<OrtStatus* (*)(Parameters...)>(slot)(arguments...)) throw Failure{status};
}
#define AEROGEL_CALL(api, name, parameters, ...) \
  Call(api, ort::slot::name, static_cast<OrtStatus*(*)parameters>(nullptr), __VA_ARGS__)

// Runs `body` and turns whatever it throws into a status.
template <typename Body>
OrtStatus* Guard(const Api* api, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::exception& e) {
    return Status(api, e.what());
  }
}

struct Refusal : std::exception {
  explicit Refusal(std::string text) : message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

struct Tensor {
  int type = ort::kUndefined;
  std::vector<int64_t> shape;
  void* data = nullptr;
};

Tensor Read(const Api* api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  AEROGEL_CALL(api, GetTensorTypeAndShape, (const OrtValue*, OrtTensorTypeAndShapeInfo**), value, &info);
  const auto release = api->Get<void (*)(OrtTensorTypeAndShapeInfo*)>(ort::slot::ReleaseTensorTypeAndShapeInfo);
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> owner(info, release);
  Tensor tensor;
  size_t rank = 0;
  AEROGEL_CALL(api, GetTensorElementType, (const OrtTensorTypeAndShapeInfo*, int*), info, &tensor.type);
  AEROGEL_CALL(api, GetDimensionsCount, (const OrtTensorTypeAndShapeInfo*, size_t*), info, &rank);
  tensor.shape.resize(rank);
  AEROGEL_CALL(api, GetDimensions, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t), info, tensor.shape.data(),
               rank);
  AEROGEL_CALL(api, GetTensorMutableData, (OrtValue*, void**), const_cast<OrtValue*>(value), &tensor.data);
  return tensor;
}

std::string Show(const Tensor& tensor) {
  const char* const types[] = {"untyped", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64"};
  const auto known = tensor.type >= 0 && tensor.type < 8;
  std::string text = known ? types[tensor.type] : "element type " + std::to_string(tensor.type);
  text += " [";
  const std::vector<int64_t>& shape = tensor.shape;
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

class SessionThreads final : public Parallel {
 public:
  SessionThreads(const Api* api, const OrtKernelContext* context) : api_(api), context_(context) {}
  void For(size_t count, Body body, void* argument) const override {
    // Every unit a batch of its own: the pool hands them out as threads come free.
    AEROGEL_CALL(api_, KernelContext_ParallelFor,
                 (const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*), context_, body, count,
                 count, argument);
  }

 private:
  const Api* api_;
  const OrtKernelContext* context_;
};

// One operator. The interface hands `this` to every function.
struct LinearOp : OrtCustomOp {
  const Api* api;
  const char* name;
  bool blocks;

  // The operator and the tensor of the model that is its `input`, for messages.
  std::string Where(const OrtKernelInfo* info, Input input) const {
    size_t size = 0;
    AEROGEL_CALL(api, KernelInfo_GetInputName, (const OrtKernelInfo*, size_t, char*, size_t*), info, size_t{input},
                 static_cast<char*>(nullptr), &size);
    std::string tensor(size, '\0');
    AEROGEL_CALL(api, KernelInfo_GetInputName, (const OrtKernelInfo*, size_t, char*, size_t*), info, size_t{input},
                 &tensor[0], &size);
    return std::string(name) + ": " + kInputNames[input] + " '" + tensor.c_str() + "'";
  }

  Tensor Constant(const OrtKernelInfo* info, Input input) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    AEROGEL_CALL(api, KernelInfoGetConstantInput_tensor, (const OrtKernelInfo*, size_t, int*, const OrtValue**), info,
                 input, &is_constant, &value);
    if (!is_constant) throw Refusal(Where(info, input) + " must be an initializer");
    return Read(api, value);
  }

  std::unique_ptr<SparseLinear> Create(const OrtKernelInfo* info) const {
    int64_t in_features = 0;
    AEROGEL_CALL(api, KernelInfoGetAttribute_int64, (const OrtKernelInfo*, const char*, int64_t*), info, "in_features",
                 &in_features);
    const Tensor data = Constant(info, kData);
    const Tensor indices = Constant(info, kIndices);
    const Tensor indptr = Constant(info, kIndptr);
    const Tensor bias = Constant(info, kBias);
    const size_t rank = blocks ? 3 : 1;
    if (data.type != ort::kFloat || data.shape.size() != rank) {
      throw Refusal(Where(info, kData) + " must be float32 of rank " + std::to_string(rank) + ", not " + Show(data));
    }
    if ((indices.type != ort::kUint16 && indices.type != ort::kInt32) || indices.shape.size() != 1 ||
        indices.shape[0] != data.shape[0]) {
      throw Refusal(Where(info, kIndices) + " must be uint16 or int32 [" + std::to_string(data.shape[0]) + "], not " +
                    Show(indices));
    }
    if (indptr.type != ort::kInt32 || indptr.shape.size() != 1 || indptr.shape[0] < 2) {
      throw Refusal(Where(info, kIndptr) + " must be int32 of rank 1 and at least 2 entries, not " + Show(indptr));
    }
    SparseView view{};
    view.block_rows = blocks ? data.shape[1] : 1;
    view.block_cols = blocks ? data.shape[2] : 1;
    if (view.block_rows > std::numeric_limits<int32_t>::max() / indptr.shape[0]) {
      throw Refusal(Where(info, kData) + " has blocks of " + std::to_string(view.block_rows) + " rows, too many for " +
                    std::to_string(indptr.shape[0] - 1) + " rows of blocks");
    }
    view.out_features = (indptr.shape[0] - 1) * view.block_rows;
    view.in_features = in_features;
    view.entries = data.shape[0];
    view.data = static_cast<const float*>(data.data);
    view.indices = indices.data;
    view.wide_indices = indices.type == ort::kInt32;
    view.indptr = static_cast<const int32_t*>(indptr.data);
    if (bias.type != ort::kFloat || bias.shape != std::vector<int64_t>{view.out_features}) {
      throw Refusal(Where(info, kBias) + " must be float32 [" + std::to_string(view.out_features) + "], not " +
                    Show(bias));
    }
    std::string error;
    const KernelTable* kernels = DefaultIsa(&error);
    if (!kernels) throw Refusal(error);
    auto linear = SparseLinear::Create(view, static_cast<const float*>(bias.data), *kernels, &error);
    if (!linear) throw Refusal(Where(info, kIndices) + ": " + error);
    return linear;
  }

  // Shape of y: that of x with its last dimension replaced. Lets the runtime plan memory and fuse what follows.
  void InferShape(OrtShapeInferContext* context) const {
    OrtTensorTypeAndShapeInfo* infos[kIndptr + 1] = {};
    std::vector<int64_t> shapes[kIndptr + 1];
    for (size_t i : {size_t{kX}, size_t{kData}, size_t{kIndptr}}) {
      AEROGEL_CALL(api, ShapeInferContext_GetInputTypeShape,
                   (const OrtShapeInferContext*, size_t, OrtTensorTypeAndShapeInfo**), context, i, &infos[i]);
      size_t rank = 0;
      AEROGEL_CALL(api, GetDimensionsCount, (const OrtTensorTypeAndShapeInfo*, size_t*), infos[i], &rank);
      shapes[i].resize(rank);
      AEROGEL_CALL(api, GetDimensions, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t), infos[i], shapes[i].data(),
                   rank);
    }
    std::vector<int64_t>& shape = shapes[kX];
    if (shape.empty() || shapes[kIndptr].size() != 1 || shapes[kData].size() != (blocks ? 3u : 1u)) return;
    std::vector<const char*> names(shape.size(), "");
    AEROGEL_CALL(api, GetSymbolicDimensions, (const OrtTensorTypeAndShapeInfo*, const char**, size_t), infos[kX],
                 names.data(), names.size());
    names.back() = "";
    shape.back() = (shapes[kIndptr][0] - 1) * (blocks ? shapes[kData][1] : 1);

    OrtTensorTypeAndShapeInfo* out = nullptr;
    AEROGEL_CALL(api, CreateTensorTypeAndShapeInfo, (OrtTensorTypeAndShapeInfo**), &out);
    const auto release = api->Get<void (*)(OrtTensorTypeAndShapeInfo*)>(ort::slot::ReleaseTensorTypeAndShapeInfo);
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> owner(out, release);
    AEROGEL_CALL(api, SetTensorElementType, (OrtTensorTypeAndShapeInfo*, int), out, static_cast<int>(ort::kFloat));
    AEROGEL_CALL(api, SetDimensions, (OrtTensorTypeAndShapeInfo*, const int64_t*, size_t), out, shape.data(),
                 shape.size());
    AEROGEL_CALL(api, SetSymbolicDimensions, (OrtTensorTypeAndShapeInfo*, const char**, size_t), out, names.data(),
                 names.size());
    AEROGEL_CALL(api, ShapeInferContext_SetOutputTypeShape,
                 (const OrtShapeInferContext*, size_t, const OrtTensorTypeAndShapeInfo*), context, size_t{0}, out);
  }
};

struct LinearKernel {
  const LinearOp* op;
  std::unique_ptr<SparseLinear> linear;

  void Compute(OrtKernelContext* context) const {
    const Api* api = op->api;
    const OrtValue* input = nullptr;
    AEROGEL_CALL(api, KernelContext_GetInput, (const OrtKernelContext*, size_t, const OrtValue**), context, size_t{kX},
                 &input);
    const Tensor x = Read(api, input);
    if (x.shape.empty() || x.shape.back() != linear->in_features()) {
      throw Refusal(std::string(op->name) + ": x must end in dimension " + std::to_string(linear->in_features()) +
                    ", not " + Show(x));
    }
    int64_t tokens = 1;
    for (size_t i = 0; i + 1 < x.shape.size(); ++i) tokens *= x.shape[i];
    std::vector<int64_t> shape = x.shape;
    shape.back() = linear->out_features();
    OrtValue* output = nullptr;
    AEROGEL_CALL(api, KernelContext_GetOutput, (OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**), context,
                 size_t{0}, shape.data(), shape.size(), &output);
    void* y = nullptr;
    AEROGEL_CALL(api, GetTensorMutableData, (OrtValue*, void**), output, &y);
    if (tokens == 0) return;
    linear->Run(static_cast<const float*>(x.data), tokens, static_cast<float*>(y), SessionThreads(api, context));
  }
};

LinearOp MakeOp(const Api* api, const char* name, bool blocks) {
  LinearOp op{};
  op.api = api;
  op.name = name;
  op.blocks = blocks;
  op.version = ort::kApiVersion;
  op.GetName = [](const OrtCustomOp* self) { return static_cast<const LinearOp*>(self)->name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return kInputs; };
  op.GetInputType = [](const OrtCustomOp*, size_t i) -> int {
    // Undefined lets both widths of indices through; they are told apart when the kernel is created.
    return i == kIndices ? ort::kUndefined : i == kIndptr ? ort::kInt32 : ort::kFloat;
  };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return ort::kFloat; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) -> int { return ort::kRequired; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) -> int { return ort::kRequired; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> int { return ort::kMemoryDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = [](const OrtCustomOp* self, const Api* api, const OrtKernelInfo* info, void** kernel) {
    const auto* linear_op = static_cast<const LinearOp*>(self);
    return Guard(api, [&] { *kernel = new LinearKernel{linear_op, linear_op->Create(info)}; });
  };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    const auto* linear = static_cast<const LinearKernel*>(kernel);
    return Guard(linear->op->api, [&] { linear->Compute(context); });
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<LinearKernel*>(kernel); };
  op.InferOutputShapeFn = [](const OrtCustomOp* self, OrtShapeInferContext* context) {
    const auto* linear_op = static_cast<const LinearOp*>(self);
    return Guard(linear_op->api, [&] { linear_op->InferShape(context); });
  };
  return op;
}

// What one registration hands to the runtime, which keeps pointers into it for as long as sessions live.
struct Registration {
  LinearOp ops[2];
};

}  // namespace
}  // namespace aerogel

// Called by SessionOptions.register_custom_ops_library and its equals in other languages. On a runtime older than 1.17
// nothing is registered, and models run by their function bodies.
extern "C" AEROGEL_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const aerogel::ort::ApiBase* base) {
  using namespace aerogel;
  const Api* api = base->GetApi(ort::kApiVersion);
  if (!api) return nullptr;
  return Guard(api, [&] {
    static std::mutex mutex;
    static auto* registrations = new std::vector<std::unique_ptr<Registration>>();
    const std::lock_guard<std::mutex> lock(mutex);
    registrations->push_back(std::unique_ptr<Registration>(
        new Registration{{MakeOp(api, "CsrLinear_v1", false), MakeOp(api, "BsrLinear_v1", true)}}));
    OrtCustomOpDomain* domain = nullptr;
    AEROGEL_CALL(api, CreateCustomOpDomain, (const char*, OrtCustomOpDomain**), "aerogel", &domain);
    for (LinearOp& op : registrations->back()->ops) {
      AEROGEL_CALL(api, CustomOpDomain_Add, (OrtCustomOpDomain*, const OrtCustomOp*), domain, &op);
    }
    AEROGEL_CALL(api, AddCustomOpDomain, (OrtSessionOptions*, OrtCustomOpDomain*), options, domain);
  });
}
