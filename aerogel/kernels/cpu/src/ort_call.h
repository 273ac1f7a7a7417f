// ONNX Runtime's C interface with errors as exceptions, and the base classes of operators and kernels.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "c_api.h"
#include "ort_abi.h"
#include "packed.h"
#include "parallel.h"

namespace aerogel {

using ort::Api;

// A call of the runtime failed. Carries its status to Guard, which returns it.
struct OrtCallFailed {
  OrtStatus* status;
};

// A status of the runtime with this message.
OrtStatus* MakeOrtStatus(const Api* api, const std::string& message);

// Calls a function of the runtime that returns a status; throws OrtCallFailed if it is not null.
template <typename... Parameters, typename... Arguments>
void Call(const Api* api, int slot, OrtStatus* (*)(Parameters...), Arguments... arguments) {
  if (OrtStatus* status = api->Get<OrtStatus* (*)(Parameters...)>(slot)(arguments...)) throw OrtCallFailed{status};
}
#define AEROGEL_CALL(api, name, parameters, ...) \
  Call(api, ort::slot::name, static_cast<OrtStatus*(*)parameters>(nullptr), __VA_ARGS__)

// Runs `body` and returns null, or as a status what it throws.
template <typename Body>
OrtStatus* Guard(const Api* api, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const OrtCallFailed& failure) {
    return failure.status;
  } catch (const std::exception& e) {
    return MakeOrtStatus(api, e.what());
  }
}

// A tensor or attribute is malformed; the message names it.
struct InvalidArgument : std::exception {
  explicit InvalidArgument(std::string text) : message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

struct Tensor {
  int type = ort::kUndefined;
  std::vector<int64_t> shape;
  void* data = nullptr;
};

// Type, shape and data of a value; the data is the runtime's.
Tensor Read(const Api* api, const OrtValue* value);

// Type and shape, for messages: "float32 [2, 3]".
std::string Show(const Tensor& tensor);

// The session's own threads.
class SessionThreads final : public Parallel {
 public:
  SessionThreads(const Api* api, const OrtKernelContext* context) : api_(api), context_(context) {}
  void For(size_t count, Body body, void* argument) const override {
    // Each unit is a batch of its own: the pool gives the next one to the first free thread.
    AEROGEL_CALL(api_, KernelContext_ParallelFor,
                 (const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*), context_, body, count,
                 count, argument);
  }

 private:
  const Api* api_;
  const OrtKernelContext* context_;
};

// Reads the attributes and constant inputs of a node while its kernel is created, and names them in messages. Throws
// InvalidArgument where they are not as asked for.
class KernelInfoReader {
 public:
  KernelInfoReader(const Api* api, const OrtKernelInfo* info, const char* op) : api_(api), info_(info), op_(op) {}

  const Api* api() const { return api_; }
  int64_t Integer(const char* attribute) const;
  float Float(const char* attribute) const;
  std::string String(const char* attribute) const;
  size_t InputCount() const;
  // For messages: the operator with the node's name, if it has one: "CsrLinear_v1 'query'".
  std::string Node() const;
  // An input's role with its tensor's name: "indptr 'w_indptr'"; and that after Node().
  std::string Named(size_t input, const char* role) const;
  std::string Where(size_t input, const char* role) const { return Node() + ": " + Named(input, role); }
  // What is wrong with the matrix whose tensors begin at input `first`, with the tensor's name.
  std::string Describe(size_t first, const Status& status) const;
  // An input, which must be an initializer.
  Tensor Constant(size_t input, const char* role) const;
  // An input, which must be an initializer, float32 [size]; of any size if -1, and `found` receives it. Valid as long
  // as this object.
  const float* Floats(size_t input, const char* role, int64_t size = -1, int64_t* found = nullptr) const;

  // The matrix whose tensors begin at input `first`: data, indices and indptr or a bitmask, scale and bias, or those of
  // them that its storage format has: dense, csr, bsr or bitmask, the latter three also with -fp16 or -int8 appended.
  // Checks types, shapes and sizes, but not the numbers, which Validate checks. A bitmask is unpacked to the indices of
  // CSR. All but data is valid as long as this object. In ort_matrix.cc.
  AerogelMatrix Matrix(size_t first, const std::string& format, int64_t in_features) const;

 private:
  // Calls get(), which reads the attribute `name`; throws InvalidArgument if it is missing or not of `type`.
  template <typename Get>
  void Attribute(const char* name, const char* type, Get get) const;
  // The parts of Matrix that read where the entries are. `matrix` has its in_features, entries and block.
  void ReadIndices(size_t first, const Tensor& data, AerogelMatrix* matrix) const;
  void ReadBitmask(size_t first, AerogelMatrix* matrix) const;
  // Memory that is valid as long as this object, aligned for any number.
  void* Allocate(size_t bytes) const;
  // The data of a tensor of one dimension, at a multiple of `alignment`, the size of an element: a copy where a mapped
  // file has it elsewhere.
  const void* Aligned(const Tensor& tensor, size_t alignment) const;

  const Api* api_;
  const OrtKernelInfo* info_;
  const char* op_;
  mutable std::vector<std::unique_ptr<char[]>> copies_;
};

// Tensors of a matrix of this storage format; 0 if there is no such format.
size_t TensorCount(const std::string& format);

// A node with its weights prepared.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void Compute(const Api* api, OrtKernelContext* context) const = 0;
};

// An operator of the domain "aerogel".
class Operator {
 public:
  virtual ~Operator() = default;
  virtual const char* name() const = 0;
  virtual size_t inputs() const = 0;
  virtual int input_type(size_t i) const = 0;
  // Whether the last input may be repeated any number of times, with any types.
  virtual bool variadic() const { return false; }
  virtual std::unique_ptr<Kernel> Create(const KernelInfoReader& info) const = 0;
  // Sets the output's shape, by which the runtime plans memory and fuses later nodes.
  virtual void InferShape(const Api* api, OrtShapeInferContext* context) const = 0;
};

// The shape of an input of a node during shape inference.
struct ShapeInput {
  OrtTensorTypeAndShapeInfo* info;
  std::vector<int64_t> shape;
  std::vector<const char*> symbols;
};
ShapeInput InputShape(const Api* api, const OrtShapeInferContext* context, size_t input);
// A string attribute of a node during shape inference.
std::string AttributeText(const Api* api, const OrtShapeInferContext* context, const char* name);
void SetOutputShape(const Api* api, OrtShapeInferContext* context, const ShapeInput& shape);

// Allocates output 0, float32 of this shape.
// Throws InvalidArgument if the caller's memory for it is misaligned.
float* Output(const Api* api, OrtKernelContext* context, const std::vector<int64_t>& shape);
// An input of a kernel that runs. Throws InvalidArgument if its memory is misaligned.
Tensor Input(const Api* api, const OrtKernelContext* context, size_t input);

// ort_linear.cc and ort_encoder.cc.
std::vector<std::unique_ptr<Operator>> LinearOperators();
std::unique_ptr<Operator> EncoderOperator();

}  // namespace aerogel
