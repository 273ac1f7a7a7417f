// The operator Encoder_v1: a stack of post-LayerNorm encoder layers in one node, see encoder.h.
//
//   inputs hidden, mask, tensors...; attributes heads, epsilon, activation, matrices, tokens; output y
//
// `matrices` has six words per layer, the storage formats of q, k, v, o, ffn1 and ffn2 (see KernelInfoReader::Matrix).
// The tensors of a layer are those of q, k, v and o, gamma1, beta1, those of ffn1 and ffn2, gamma2, beta2.
#include <sstream>

#include "dispatch.h"
#include "encoder.h"
#include "ort_call.h"

namespace aerogel {
namespace {

constexpr const char* kName = "Encoder_v1";
constexpr size_t kTensors = 2;  // index of the first

class EncoderKernel final : public Kernel {
 public:
  // node: for messages.
  EncoderKernel(std::string node, std::unique_ptr<Encoder> encoder)
      : node_(std::move(node)), encoder_(std::move(encoder)) {}

  void Compute(const Api* api, OrtKernelContext* context) const override {
    const Tensor hidden = Input(api, context, 0);
    const Tensor mask = Input(api, context, 1);
    if (hidden.shape.size() != 3 || hidden.shape[2] != encoder_->features()) {
      throw InvalidArgument(node_ + ": hidden must be [batch, sequence, " + std::to_string(encoder_->features()) +
                            "], not " + Show(hidden));
    }
    if (mask.shape.size() != 2 || mask.shape[0] != hidden.shape[0] || mask.shape[1] != hidden.shape[1]) {
      throw InvalidArgument(node_ + ": mask must be int64 [" + std::to_string(hidden.shape[0]) + ", " +
                            std::to_string(hidden.shape[1]) + "], not " + Show(mask));
    }
    std::vector<int64_t> shape = hidden.shape;
    if (encoder_->first_token_only()) {
      if (shape[1] == 0) throw InvalidArgument(node_ + ": hidden has no first token");
      shape[1] = 1;
    }
    float* const y = Output(api, context, shape);
    encoder_->Run(static_cast<const float*>(hidden.data), static_cast<const int64_t*>(mask.data), hidden.shape[0],
                  hidden.shape[1], y, SessionThreads(api, context));
  }

 private:
  std::string node_;
  std::unique_ptr<Encoder> encoder_;
};

Activation ActivationOf(const std::string& name, const std::string& node) {
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  throw InvalidArgument(node + ": activation '" + name + "': must be gelu, gelu_tanh or relu");
}

// Whether only the first token of each sequence is to be computed.
bool FirstTokenOnly(const std::string& tokens, const std::string& node) {
  if (tokens != "all" && tokens != "first") {
    throw InvalidArgument(node + ": tokens '" + tokens + "': must be all or first");
  }
  return tokens == "first";
}

// The storage formats of all matrices, six per layer.
std::vector<std::string> Formats(const KernelInfoReader& info) {
  std::vector<std::string> formats;
  std::istringstream words(info.String("matrices"));
  size_t tensors = 0;
  for (std::string word; words >> word;) {
    if (TensorCount(word) == 0)
      throw InvalidArgument(info.Node() + ": matrices names the unknown storage format '" + word + "'");
    tensors += TensorCount(word);
    formats.push_back(word);
  }
  if (formats.empty() || formats.size() % 6 != 0) {
    throw InvalidArgument(info.Node() + ": matrices has " + std::to_string(formats.size()) +
                          " words; must be six per layer");
  }
  const size_t wanted = kTensors + tensors + formats.size() / 6 * 4;
  if (info.InputCount() != wanted) {
    throw InvalidArgument(info.Node() + " has " + std::to_string(info.InputCount()) +
                          " inputs where matrices asks for " + std::to_string(wanted));
  }
  return formats;
}

class EncoderOperatorV1 final : public Operator {
 public:
  const char* name() const override { return kName; }
  size_t inputs() const override { return kTensors + 1; }
  int input_type(size_t i) const override { return i == 0 ? ort::kFloat : i == 1 ? ort::kInt64 : ort::kUndefined; }
  bool variadic() const override { return true; }

  std::unique_ptr<Kernel> Create(const KernelInfoReader& info) const override {
    std::string error;
    const KernelTable* kernels = DefaultIsa(&error);
    if (!kernels) throw InvalidArgument(error);
    const std::vector<std::string> formats = Formats(info);
    const std::string node = info.Node();
    std::vector<EncoderLayer> layers;
    size_t input = kTensors;
    for (size_t i = 0; i < formats.size(); i += 6) {
      AerogelEncoderLayer source{};
      int64_t hidden = 0;
      size_t norm = input;
      for (size_t j = 0; j < 4; ++j) norm += TensorCount(formats[i + j]);
      source.gamma1 = info.Floats(norm, "gamma1", -1, &hidden);
      source.beta1 = info.Floats(norm + 1, "beta1", hidden);
      size_t first_inputs[6];  // inputs at which the tensors of each matrix begin
      const auto next = [&](size_t j, int64_t in_features) {
        first_inputs[j] = input;
        const AerogelMatrix matrix = info.Matrix(input, formats[i + j], in_features);
        input += TensorCount(formats[i + j]);
        return matrix;
      };
      source.q = next(0, hidden), source.k = next(1, hidden), source.v = next(2, hidden);
      source.o = next(3, source.q.out_features);
      input += 2;
      source.ffn1 = next(4, hidden);
      source.ffn2 = next(5, source.ffn1.out_features);
      source.gamma2 = info.Floats(input, "gamma2", hidden);
      source.beta2 = info.Floats(input + 1, "beta2", hidden);
      input += 2;
      if (source.o.out_features != hidden) {
        throw InvalidArgument(info.Where(norm, "gamma1") + " has " + std::to_string(hidden) + " entries where layer " +
                              std::to_string(i / 6) + " has " + std::to_string(source.o.out_features) + " features");
      }
      LayerStatus checked;
      layers.push_back(MakeLayer(source, *kernels, &checked));
      if (!checked.status.ok()) {
        throw InvalidArgument(node + ": layer " + std::to_string(i / 6) + ": " + kMatrixNames[checked.matrix] + ": " +
                              info.Describe(first_inputs[checked.matrix], checked.status));
      }
    }
    auto encoder = Encoder::Create(std::move(layers), info.Integer("heads"), info.Float("epsilon"),
                                   ActivationOf(info.String("activation"), node),
                                   FirstTokenOnly(info.String("tokens"), node), &error);
    if (!encoder) throw InvalidArgument(node + ": " + error);
    return std::unique_ptr<Kernel>(new EncoderKernel(node, std::move(encoder)));
  }

  void InferShape(const Api* api, OrtShapeInferContext* context) const override {
    const ShapeInput hidden = InputShape(api, context, 0);
    ShapeInput shape = hidden;
    if (shape.shape.size() != 3) return;
    if (AttributeText(api, context, "tokens") == "first") {
      shape.shape[1] = 1;
      shape.symbols[1] = "";
    }
    SetOutputShape(api, context, shape);
  }
};

}  // namespace

std::unique_ptr<Operator> EncoderOperator() { return std::unique_ptr<Operator>(new EncoderOperatorV1); }

}  // namespace aerogel
