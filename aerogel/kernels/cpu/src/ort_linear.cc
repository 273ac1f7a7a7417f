// The linear operators: y = x W^T + b with a sparse W.
//
//   inputs x, data, indices, indptr, (scale,) bias; attribute in_features; output y
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
      throw Refusal(node_ + ": x must end in dimension " + std::to_string(linear_.in_features()) + ", not " + Show(x));
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
  LinearOperator(const char* name, const char* form) : name_(name), form_(form) {}

  const char* name() const override { return name_; }
  size_t inputs() const override { return 1 + TensorCount(form_); }
  int input_type(size_t i) const override {
    // Undefined lets both widths of indices through; all types are checked when the kernel is created.
    return i == 0 ? ort::kFloat : ort::kUndefined;
  }

  std::unique_ptr<Kernel> Create(const Creation& creation) const override {
    std::string error;
    const KernelTable* kernels = DefaultIsa(&error);
    if (!kernels) throw Refusal(error);
    const AerogelMatrix source = creation.Matrix(1, form_, creation.Integer("in_features"));
    Fault fault;
    auto matrix = Matrix::Create(source, *kernels, &fault);
    if (fault) {
      // What tensors say of sizes has been checked.
      const std::string attribute = fault.part == Part::kSizes ? "in_features: " : "";
      throw Refusal(creation.Node() + ": " + attribute + creation.Told(1, fault));
    }
    return std::unique_ptr<Kernel>(new LinearKernel(creation.Node(), std::move(matrix)));
  }

  // That of x with its last dimension replaced.
  void InferShape(const Api* api, OrtShapeInferContext* context) const override {
    ShapeInput shape = InputShape(api, context, 0);
    const ShapeInput data = InputShape(api, context, 1), indptr = InputShape(api, context, 3);
    const bool blocks = form_[0] == 'b';
    if (shape.shape.empty() || indptr.shape.size() != 1 || data.shape.size() != (blocks ? 3u : 1u)) return;
    // Sizes are the file's, unchecked so far: what cannot be is left for Create to refuse.
    const int64_t height = blocks ? data.shape[1] : 1;
    int64_t rows = 0;
    if (indptr.shape[0] < 1 || height < 1 || __builtin_mul_overflow(indptr.shape[0] - 1, height, &rows)) return;
    shape.symbols.back() = "";
    shape.shape.back() = rows;
    SetOutputShape(api, context, shape);
  }

 private:
  const char* name_;
  const std::string form_;
};

}  // namespace

std::vector<std::unique_ptr<Operator>> LinearOperators() {
  static constexpr const char* kOperators[][2] = {{"CsrLinear_v1", "csr"},          {"BsrLinear_v1", "bsr"},
                                                  {"CsrLinearFp16_v1", "csr-fp16"}, {"BsrLinearFp16_v1", "bsr-fp16"},
                                                  {"CsrLinearInt8_v1", "csr-int8"}, {"BsrLinearInt8_v1", "bsr-int8"}};
  std::vector<std::unique_ptr<Operator>> operators;
  for (const auto& op : kOperators) operators.emplace_back(new LinearOperator(op[0], op[1]));
  return operators;
}

}  // namespace aerogel
