// ONNX Runtime's interface with errors as exceptions, and what every operator here has in common.
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

// A failed call of the runtime's interface; carries the status up to the edge of the library.
struct Failure {
  OrtStatus* status;
};

OrtStatus* Status(const Api* api, const std::string& message);

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

Tensor Read(const Api* api, const OrtValue* value);

// Type and shape in words.
std::string Show(const Tensor& tensor);

// The session's own threads.
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

// Where a kernel is being created: reads its attributes and its constant inputs, and names them in messages.
class Creation {
 public:
  Creation(const Api* api, const OrtKernelInfo* info, const char* op) : api_(api), info_(info), op_(op) {}

  const Api* api() const { return api_; }
  int64_t Integer(const char* attribute) const;
  float Float(const char* attribute) const;
  std::string String(const char* attribute) const;
  size_t InputCount() const;
  // For messages: the operator with the node's name, if it has one; an input's role with its tensor's name; both.
  std::string Node() const;
  std::string Named(size_t input, const char* role) const;
  std::string Where(size_t input, const char* role) const { return Node() + ": " + Named(input, role); }
  // A fault of the matrix whose tensors begin at input `first`, with the tensor's name.
  std::string Told(size_t first, const Fault& fault) const;
  // An input that must be an initializer.
  Tensor Constant(size_t input, const char* role) const;
  // The same, float32 of `size` numbers; of any size if -1. Valid as long as this.
  const float* Floats(size_t input, const char* role, int64_t size = -1, int64_t* found = nullptr) const;

  // The tensors of a matrix, from input `first` on: data, indices, indptr, scale and bias, or those of them that the
  // form has. form: dense, csr or bsr, the latter two with -fp16 or -int8 behind. Checks types, shapes and sizes;
  // structure is checked by whoever prepares the matrix. All but data is valid as long as this.
  AerogelMatrix Matrix(size_t first, const std::string& form, int64_t in_features) const;

 private:
  // Reads an attribute of a type by calling get().
  template <typename Get>
  void Attribute(const char* name, const char* type, Get get) const;
  // The numbers of a tensor of one dimension at an address where they may be read. A file that is mapped may have them
  // anywhere; they are then copied.
  const void* Aligned(const Tensor& tensor, size_t alignment) const;

  const Api* api_;
  const OrtKernelInfo* info_;
  const char* op_;
  mutable std::vector<std::unique_ptr<char[]>> copies_;
};

// How many tensors a matrix of this form has; 0 if there is no such form.
size_t TensorCount(const std::string& form);

// A prepared operator.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void Compute(const Api* api, OrtKernelContext* context) const = 0;
};

class Operator {
 public:
  virtual ~Operator() = default;
  virtual const char* name() const = 0;
  virtual size_t inputs() const = 0;
  virtual int input_type(size_t i) const = 0;
  // Whether the last input stands for any number of them, of any types.
  virtual bool variadic() const { return false; }
  virtual std::unique_ptr<Kernel> Create(const Creation& creation) const = 0;
  // Tells the output's shape, which lets the runtime plan memory and fuse what follows.
  virtual void InferShape(const Api* api, OrtShapeInferContext* context) const = 0;
};

// Inputs of a node whose shapes are being inferred.
struct ShapeInput {
  OrtTensorTypeAndShapeInfo* info;
  std::vector<int64_t> shape;
  std::vector<const char*> symbols;
};
ShapeInput InputShape(const Api* api, const OrtShapeInferContext* context, size_t input);
// A string attribute of such a node.
std::string AttributeText(const Api* api, const OrtShapeInferContext* context, const char* name);
void SetOutputShape(const Api* api, OrtShapeInferContext* context, const ShapeInput& shape);

// Output 0, float32 of this shape.
float* Output(const Api* api, OrtKernelContext* context, const std::vector<int64_t>& shape);
Tensor Input(const Api* api, const OrtKernelContext* context, size_t input);

// The operators of each file.
std::vector<std::unique_ptr<Operator>> LinearOperators();
std::unique_ptr<Operator> EncoderOperator();

}  // namespace aerogel
