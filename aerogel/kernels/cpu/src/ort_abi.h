// The part of ONNX Runtime's C interface that is used here, declared again because no wheel ships the official header.
//
// The interface is a table of functions whose order never changes between releases, and a structure (OrtCustomOp) that
// only grows at its end. tests/kernels/cpu/test_ort_abi.py compares the numbers below with the official header where
// one is installed.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;
struct OrtOpAttr;
struct OrtCustomOp;

namespace aerogel {
namespace ort {

// First release with shape inference for custom operators.
constexpr uint32_t kApiVersion = 17;

enum ErrorCode : int { kInvalidArgument = 2 };
enum ElementType : int {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt32 = 6,
  kInt64 = 7,
  kFloat16 = 10
};
enum Characteristic : int { kRequired = 0, kVariadic = 2 };
enum AttributeType : int { kString = 5 };
enum MemoryType : int { kMemoryDefault = 0 };

// Function-table slots of OrtApi under their official names, counted in pointers from its start.
namespace slot {
enum Slot : int {
  CreateStatus = 0,
  CreateCustomOpDomain = 26,
  CustomOpDomain_Add = 27,
  AddCustomOpDomain = 28,
  GetTensorMutableData = 51,
  CreateTensorTypeAndShapeInfo = 57,
  SetTensorElementType = 58,
  SetDimensions = 59,
  GetTensorElementType = 60,
  GetDimensionsCount = 61,
  GetDimensions = 62,
  GetSymbolicDimensions = 63,
  GetTensorTypeAndShape = 65,
  KernelInfoGetAttribute_float = 85,
  KernelInfoGetAttribute_int64 = 86,
  KernelInfoGetAttribute_string = 87,
  KernelContext_GetInput = 90,
  KernelContext_GetOutput = 91,
  ReleaseStatus = 93,
  ReleaseTensorTypeAndShapeInfo = 99,
  ReleaseCustomOpDomain = 101,
  KernelInfo_GetInputCount = 230,
  KernelInfo_GetInputName = 232,
  KernelInfo_GetNodeName = 244,
  KernelInfoGetConstantInput_tensor = 249,
  ShapeInferContext_GetInputTypeShape = 268,
  ShapeInferContext_GetAttribute = 269,
  ShapeInferContext_SetOutputTypeShape = 270,
  SetSymbolicDimensions = 271,
  ReadOpAttr = 272,
  KernelContext_ParallelFor = 274,
};
}  // namespace slot

struct Api {
  void* functions[slot::KernelContext_ParallelFor + 1];

  template <typename Function>
  Function Get(int slot) const {
    return reinterpret_cast<Function>(functions[slot]);
  }
};

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

}  // namespace ort
}  // namespace aerogel

// OrtCustomOp as of version 17: 26 pointers.
struct OrtCustomOp {
  using Api = aerogel::ort::Api;
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const Api*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const Api*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};
static_assert(sizeof(void*) != 8 || sizeof(OrtCustomOp) == 208, "OrtCustomOp of version 17 has 208 bytes");
