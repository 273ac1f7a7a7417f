#include "ort_call.h"

#include <cstring>

namespace aerogel {

OrtStatus* MakeOrtStatus(const Api* api, const std::string& message) {
  return api->Get<OrtStatus* (*)(int, const char*)>(ort::slot::CreateStatus)(ort::kInvalidArgument, message.c_str());
}

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
  const char* const types[] = {"untyped", "float32", "uint8",  "int8", "uint16", "int16",
                               "int32",   "int64",   "string", "bool", "float16"};
  const auto known = tensor.type >= 0 && tensor.type <= ort::kFloat16;
  std::string text = known ? types[tensor.type] : "element type " + std::to_string(tensor.type);
  text += " [";
  const std::vector<int64_t>& shape = tensor.shape;
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

template <typename Get>
void KernelInfoReader::Attribute(const char* name, const char* type, Get get) const {
  try {
    get();
  } catch (const OrtCallFailed& failure) {  // whose message does not name the node, nor always the attribute
    api_->Get<void (*)(OrtStatus*)>(ort::slot::ReleaseStatus)(failure.status);
    throw InvalidArgument(Node() + ": attribute " + name + " is missing or not " + type);
  }
}

int64_t KernelInfoReader::Integer(const char* attribute) const {
  int64_t value = 0;
  Attribute(attribute, "an integer", [&] {
    AEROGEL_CALL(api_, KernelInfoGetAttribute_int64, (const OrtKernelInfo*, const char*, int64_t*), info_, attribute,
                 &value);
  });
  return value;
}

float KernelInfoReader::Float(const char* attribute) const {
  float value = 0;
  Attribute(attribute, "a float", [&] {
    AEROGEL_CALL(api_, KernelInfoGetAttribute_float, (const OrtKernelInfo*, const char*, float*), info_, attribute,
                 &value);
  });
  return value;
}

std::string KernelInfoReader::String(const char* attribute) const {
  std::string value;
  Attribute(attribute, "a string", [&] {
    size_t size = 0;  // with the zero at the end
    AEROGEL_CALL(api_, KernelInfoGetAttribute_string, (const OrtKernelInfo*, const char*, char*, size_t*), info_,
                 attribute, static_cast<char*>(nullptr), &size);
    value.resize(size);
    AEROGEL_CALL(api_, KernelInfoGetAttribute_string, (const OrtKernelInfo*, const char*, char*, size_t*), info_,
                 attribute, &value[0], &size);
    value.resize(size - 1);
  });
  return value;
}

size_t KernelInfoReader::InputCount() const {
  size_t count = 0;
  AEROGEL_CALL(api_, KernelInfo_GetInputCount, (const OrtKernelInfo*, size_t*), info_, &count);
  return count;
}

std::string KernelInfoReader::Node() const {
  size_t size = 0;
  AEROGEL_CALL(api_, KernelInfo_GetNodeName, (const OrtKernelInfo*, char*, size_t*), info_, static_cast<char*>(nullptr),
               &size);
  std::string name(size, '\0');
  AEROGEL_CALL(api_, KernelInfo_GetNodeName, (const OrtKernelInfo*, char*, size_t*), info_, &name[0], &size);
  name = name.c_str();
  return name.empty() ? op_ : std::string(op_) + " '" + name + "'";
}

std::string KernelInfoReader::Named(size_t input, const char* role) const {
  size_t size = 0;
  AEROGEL_CALL(api_, KernelInfo_GetInputName, (const OrtKernelInfo*, size_t, char*, size_t*), info_, input,
               static_cast<char*>(nullptr), &size);
  std::string tensor(size, '\0');
  AEROGEL_CALL(api_, KernelInfo_GetInputName, (const OrtKernelInfo*, size_t, char*, size_t*), info_, input, &tensor[0],
               &size);
  return std::string(role) + " '" + tensor.c_str() + "'";
}

std::string KernelInfoReader::Describe(size_t first, const Status& status) const {
  if (status.part == MatrixPart::kSizes) return status.message;
  const size_t input = first + static_cast<size_t>(status.part) - static_cast<size_t>(MatrixPart::kData);
  return Named(input, Name(status.part)) + " " + status.message;
}

Tensor KernelInfoReader::Constant(size_t input, const char* role) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  AEROGEL_CALL(api_, KernelInfoGetConstantInput_tensor, (const OrtKernelInfo*, size_t, int*, const OrtValue**), info_,
               input, &is_constant, &value);
  if (!is_constant) throw InvalidArgument(Where(input, role) + " must be an initializer");
  return Read(api_, value);
}

const float* KernelInfoReader::Floats(size_t input, const char* role, int64_t size, int64_t* found) const {
  const Tensor tensor = Constant(input, role);
  if (tensor.type != ort::kFloat || tensor.shape.size() != 1 || (size >= 0 && tensor.shape[0] != size)) {
    throw InvalidArgument(Where(input, role) + " must be float32 [" + (size < 0 ? "n" : std::to_string(size)) +
                          "], not " + Show(tensor));
  }
  if (found) *found = tensor.shape[0];
  return static_cast<const float*>(Aligned(tensor, sizeof(float)));
}

const void* KernelInfoReader::Aligned(const Tensor& tensor, size_t alignment) const {
  if (reinterpret_cast<uintptr_t>(tensor.data) % alignment == 0) return tensor.data;
  const size_t bytes = static_cast<size_t>(tensor.shape[0]) * alignment;
  return std::memcpy(Allocate(bytes), tensor.data, bytes);
}

void* KernelInfoReader::Allocate(size_t bytes) const {
  copies_.emplace_back(new char[bytes]);
  return copies_.back().get();
}

ShapeInput InputShape(const Api* api, const OrtShapeInferContext* context, size_t input) {
  ShapeInput found{};
  AEROGEL_CALL(api, ShapeInferContext_GetInputTypeShape,
               (const OrtShapeInferContext*, size_t, OrtTensorTypeAndShapeInfo**), context, input, &found.info);
  size_t rank = 0;
  AEROGEL_CALL(api, GetDimensionsCount, (const OrtTensorTypeAndShapeInfo*, size_t*), found.info, &rank);
  found.shape.resize(rank);
  AEROGEL_CALL(api, GetDimensions, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t), found.info, found.shape.data(),
               rank);
  found.symbols.assign(rank, "");
  AEROGEL_CALL(api, GetSymbolicDimensions, (const OrtTensorTypeAndShapeInfo*, const char**, size_t), found.info,
               found.symbols.data(), rank);
  return found;
}

std::string AttributeText(const Api* api, const OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* attribute = nullptr;
  AEROGEL_CALL(api, ShapeInferContext_GetAttribute, (const OrtShapeInferContext*, const char*, const OrtOpAttr**),
               context, name, &attribute);
  // No operator has a longer value; the call fails for those.
  char text[16];
  size_t size = 0;
  AEROGEL_CALL(api, ReadOpAttr, (const OrtOpAttr*, int, void*, size_t, size_t*), attribute,
               static_cast<int>(ort::kString), static_cast<void*>(text), sizeof text, &size);
  return std::string(text, size);
}

void SetOutputShape(const Api* api, OrtShapeInferContext* context, const ShapeInput& output) {
  OrtTensorTypeAndShapeInfo* out = nullptr;
  AEROGEL_CALL(api, CreateTensorTypeAndShapeInfo, (OrtTensorTypeAndShapeInfo**), &out);
  const auto release = api->Get<void (*)(OrtTensorTypeAndShapeInfo*)>(ort::slot::ReleaseTensorTypeAndShapeInfo);
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> owner(out, release);
  std::vector<const char*> symbols = output.symbols;
  AEROGEL_CALL(api, SetTensorElementType, (OrtTensorTypeAndShapeInfo*, int), out, static_cast<int>(ort::kFloat));
  AEROGEL_CALL(api, SetDimensions, (OrtTensorTypeAndShapeInfo*, const int64_t*, size_t), out, output.shape.data(),
               output.shape.size());
  AEROGEL_CALL(api, SetSymbolicDimensions, (OrtTensorTypeAndShapeInfo*, const char**, size_t), out, symbols.data(),
               symbols.size());
  AEROGEL_CALL(api, ShapeInferContext_SetOutputTypeShape,
               (const OrtShapeInferContext*, size_t, const OrtTensorTypeAndShapeInfo*), context, size_t{0}, out);
}

namespace {

// The caller may pass memory with any address; kernels are compiled for aligned numbers.
void CheckAligned(const char* what, const void* data, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(data) % alignment == 0) return;
  throw InvalidArgument(std::string(what) + " lies at an address that is not a multiple of " +
                        std::to_string(alignment) + "; allocate it aligned");
}

}  // namespace

float* Output(const Api* api, OrtKernelContext* context, const std::vector<int64_t>& shape) {
  OrtValue* output = nullptr;
  AEROGEL_CALL(api, KernelContext_GetOutput, (OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**), context,
               size_t{0}, shape.data(), shape.size(), &output);
  void* y = nullptr;
  AEROGEL_CALL(api, GetTensorMutableData, (OrtValue*, void**), output, &y);
  CheckAligned("the output", y, sizeof(float));
  return static_cast<float*>(y);
}

Tensor Input(const Api* api, const OrtKernelContext* context, size_t i) {
  const OrtValue* input = nullptr;
  AEROGEL_CALL(api, KernelContext_GetInput, (const OrtKernelContext*, size_t, const OrtValue**), context, i, &input);
  const Tensor tensor = Read(api, input);
  CheckAligned("an input", tensor.data, tensor.type == ort::kInt64 ? sizeof(int64_t) : sizeof(float));
  return tensor;
}

}  // namespace aerogel
