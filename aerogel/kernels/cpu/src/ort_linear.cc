// The linear operators: y = x W^T + b with a sparse W.
//
//   inputs x, data, indices, indptr, (scale,) bias; attribute in_features; output y
//
// With a bitmask instead of indices and indptr where W is stored so.
//
// W is checked and prepared once, when the session is created; a malformed one is refused there.
#include "dispatch.h"
#include "ort_call.h"
#include "sparse_linear.h"

namespace aerogel {
namespace {

class LinearKernel final : public Kernel {
 public:
  // node: for messages.
  LinearKernel(std::string node, std::unique_ptr<Matrix> matrix) : node_(std::move(node)), linear_(std::move(matrix)) {}

  void Compute(const Api* api, OrtKernelContext* context) const override {
    const Tensor x = Input(api, context, 0);
    if (x.shape.empty() || x.shape.back() != linear_.in_features()) {
      throw InvalidArgument(node_ + ": x must end in dimension " + std::to_string(linear_.in_features()) + ", not " +
                            Show(x));
    }
    int64_t tokens = 1;
    for (size_t i = 0; i + 1 < x.shape.size(); ++i) tokens *= x.shape[i];
    std::vector<int64_t> shape = x.shape;
    shape.back() = linear_.out_features();
    float* const y = Output(api, context, shape);
    if (tokens > 0) linear_.Run(static_cast<const float*>(x.data), tokens, y, SessionThreads(api, context));
  }

 private:
  std::string node_;
  SparseLinear linear_;
};

class LinearOperator final : public Operator {
 public:
  LinearOperator(const char* name, const char* format) : name_(name), format_(format) {}

  const char* name() const override { return name_; }
  size_t inputs() const override { return 1 + TensorCount(format_); }
  int input_type(size_t i) const override {
    // Undefined, because indices have two types; all types are checked when the kernel is created.
    return i == 0 ? ort::kFloat : ort::kUndefined;
  }

  std::unique_ptr<Kernel> Create(const KernelInfoReader& info) const override {
    std::string error;
    const KernelTable* kernels = DefaultIsa(&error);
    if (!kernels) throw InvalidArgument(error);
    const AerogelMatrix source = info.Matrix(1, format_, info.Integer("in_features"));
    Status status;
    auto matrix = Matrix::Create(source, *kernels, &status);
    if (!status.ok()) {
      // The sizes that tensors imply have been checked, so the attribute is wrong.
      const std::string attribute = status.part == MatrixPart::kSizes ? "in_features: " : "";
      throw InvalidArgument(info.Node() + ": " + attribute + info.Describe(1, status));
    }
    return std::unique_ptr<Kernel>(new LinearKernel(info.Node(), std::move(matrix)));
  }

  // The shape of x with its last dimension replaced.
  void InferShape(const Api* api, OrtShapeInferContext* context) const override {
    ShapeInput shape = InputShape(api, context, 0);
    const ShapeInput data = InputShape(api, context, 1);
    const bool blocks = format_.compare(0, 3, "bsr") == 0;
    if (format_.compare(0, 7, "bitmask") == 0) {
      const ShapeInput bitmask = InputShape(api, context, 2);
      if (shape.shape.empty() || bitmask.shape.size() != 2) return;
      shape.symbols.back() = "";
      shape.shape.back() = bitmask.shape[0];
      SetOutputShape(api, context, shape);
      return;
    }
    const ShapeInput indptr = InputShape(api, context, 3);
    if (shape.shape.empty() || indptr.shape.size() != 1 || data.shape.size() != (blocks ? 3u : 1u)) return;
    // The sizes have not been checked yet; Create refuses those that are impossible.
    const int64_t height = blocks ? data.shape[1] : 1;
    int64_t rows = 0;
    if (indptr.shape[0] < 1 || height < 1 || __builtin_mul_overflow(indptr.shape[0] - 1, height, &rows)) return;
    shape.symbols.back() = "";
    shape.shape.back() = rows;
    SetOutputShape(api, context, shape);
  }

 private:
  const char* name_;
  const std::string format_;
};

}  // namespace

std::vector<std::unique_ptr<Operator>> LinearOperators() {
  static constexpr const char* kOperators[][2] = {
      {"CsrLinear_v1", "csr"},          {"BsrLinear_v1", "bsr"},          {"BitmaskLinear_v1", "bitmask"},
      {"CsrLinearFp16_v1", "csr-fp16"}, {"BsrLinearFp16_v1", "bsr-fp16"}, {"BitmaskLinearFp16_v1", "bitmask-fp16"},
      {"CsrLinearInt8_v1", "csr-int8"}, {"BsrLinearInt8_v1", "bsr-int8"}, {"BitmaskLinearInt8_v1", "bitmask-int8"},
  };
  std::vector<std::unique_ptr<Operator>> operators;
  for (const auto& op : kOperators) operators.emplace_back(new LinearOperator(op[0], op[1]));
  return operators;
}

}  // namespace aerogel
