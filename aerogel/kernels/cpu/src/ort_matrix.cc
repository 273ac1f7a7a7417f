// Reads a matrix from the constant inputs of a node, in any storage format.
#include <limits>

#include "bitmask.h"
#include "ort_call.h"

namespace aerogel {
namespace {

enum class Layout { kDense, kCsr, kBsr, kBitmask };

// A storage format of matrices.
struct Format {
  const char* name;
  Layout layout;
  int dtype;
  int type;
  size_t tensors;
};

constexpr Format kFormats[] = {
    {"dense", Layout::kDense, AEROGEL_FLOAT32, ort::kFloat, 2},
    {"csr", Layout::kCsr, AEROGEL_FLOAT32, ort::kFloat, 4},
    {"bsr", Layout::kBsr, AEROGEL_FLOAT32, ort::kFloat, 4},
    {"bitmask", Layout::kBitmask, AEROGEL_FLOAT32, ort::kFloat, 3},
    {"csr-fp16", Layout::kCsr, AEROGEL_FLOAT16, ort::kFloat16, 4},
    {"bsr-fp16", Layout::kBsr, AEROGEL_FLOAT16, ort::kFloat16, 4},
    {"bitmask-fp16", Layout::kBitmask, AEROGEL_FLOAT16, ort::kFloat16, 3},
    {"csr-int8", Layout::kCsr, AEROGEL_INT8, ort::kInt8, 5},
    {"bsr-int8", Layout::kBsr, AEROGEL_INT8, ort::kInt8, 5},
    {"bitmask-int8", Layout::kBitmask, AEROGEL_INT8, ort::kInt8, 4},
};

const Format* FindFormat(const std::string& name) {
  for (const Format& format : kFormats) {
    if (name == format.name) return &format;
  }
  return nullptr;
}

size_t DataRank(Layout layout) { return layout == Layout::kDense ? 2 : layout == Layout::kBsr ? 3 : 1; }

}  // namespace

size_t TensorCount(const std::string& format) {
  const Format* found = FindFormat(format);
  return found ? found->tensors : 0;
}

AerogelMatrix KernelInfoReader::Matrix(size_t first, const std::string& name, int64_t in_features) const {
  const Format& format = *FindFormat(name);
  const size_t rank = DataRank(format.layout);
  const Tensor data = Constant(first, "data");
  Tensor expected;
  expected.type = format.type;
  if (data.type != format.type || data.shape.size() != rank) {
    throw InvalidArgument(Where(first, "data") + " must be " + Show(expected).substr(0, Show(expected).find(' ')) +
                          " of rank " + std::to_string(rank) + ", not " + Show(data));
  }
  AerogelMatrix matrix{};
  matrix.in_features = in_features;
  matrix.dtype = format.dtype;
  matrix.data = data.data;
  if (format.layout == Layout::kDense) {
    if (data.shape[0] != in_features || data.shape[1] < 1) {
      throw InvalidArgument(Where(first, "data") + " must have " + std::to_string(in_features) +
                            " rows and a column, not " + Show(data));
    }
    matrix.out_features = data.shape[1];
  } else {
    matrix.entries = data.shape[0];
    matrix.block_rows = format.layout == Layout::kBsr ? data.shape[1] : 1;
    matrix.block_cols = format.layout == Layout::kBsr ? data.shape[2] : 1;
    if (format.layout == Layout::kBitmask) {
      ReadBitmask(first, &matrix);
    } else {
      ReadIndices(first, data, &matrix);
    }
    if (format.dtype == AEROGEL_INT8) matrix.scale = Floats(first + format.tensors - 2, "scale", matrix.out_features);
  }
  matrix.bias = Floats(first + format.tensors - 1, "bias", matrix.out_features);
  return matrix;
}

void KernelInfoReader::ReadIndices(size_t first, const Tensor& data, AerogelMatrix* matrix) const {
  const Tensor indices = Constant(first + 1, "indices");
  const Tensor indptr = Constant(first + 2, "indptr");
  if ((indices.type != ort::kUint16 && indices.type != ort::kInt32) || indices.shape.size() != 1 ||
      indices.shape[0] != data.shape[0]) {
    throw InvalidArgument(Where(first + 1, "indices") + " must be uint16 or int32 [" + std::to_string(data.shape[0]) +
                          "], not " + Show(indices));
  }
  if (indptr.type != ort::kInt32 || indptr.shape.size() != 1 || indptr.shape[0] < 2) {
    throw InvalidArgument(Where(first + 2, "indptr") + " must be int32 of rank 1 and at least 2 entries, not " +
                          Show(indptr));
  }
  if (matrix->block_rows < 1 || matrix->block_cols < 1) {
    throw InvalidArgument(Where(first, "data") + " must have blocks of a row and a column or more, not " + Show(data));
  }
  if (matrix->block_rows > std::numeric_limits<int32_t>::max() / indptr.shape[0]) {
    throw InvalidArgument(Where(first, "data") + " has blocks of " + std::to_string(matrix->block_rows) +
                          " rows, too many for " + std::to_string(indptr.shape[0] - 1) + " rows of blocks");
  }
  matrix->out_features = (indptr.shape[0] - 1) * matrix->block_rows;
  matrix->indices = Aligned(indices, indices.type == ort::kInt32 ? sizeof(int32_t) : sizeof(uint16_t));
  matrix->wide_indices = indices.type == ort::kInt32;
  matrix->indptr = static_cast<const int32_t*>(Aligned(indptr, sizeof(int32_t)));
}

void KernelInfoReader::ReadBitmask(size_t first, AerogelMatrix* matrix) const {
  const Tensor bits = Constant(first + 1, "bitmask");
  if (bits.type != ort::kUint8 || bits.shape.size() != 2 || bits.shape[0] < 1) {
    throw InvalidArgument(Where(first + 1, "bitmask") + " must be uint8 of rank 2 with a row, not " + Show(bits));
  }
  matrix->out_features = bits.shape[0];
  if (const Status status = ValidateSizes(matrix->out_features, matrix->in_features); !status.ok()) {
    throw InvalidArgument(Node() + ": in_features: " + status.message);
  }
  const int64_t bytes = BitmaskBytes(matrix->in_features);
  if (bits.shape[1] != bytes) {
    throw InvalidArgument(Where(first + 1, "bitmask") + " must have " + std::to_string(bytes) + " bytes in a row of " +
                          std::to_string(matrix->in_features) + " columns, not " + Show(bits));
  }
  if (matrix->entries > std::numeric_limits<int32_t>::max()) {
    throw InvalidArgument(Where(first, "data") + " has " + std::to_string(matrix->entries) +
                          " values, more than 2147483647");
  }
  const auto rows = static_cast<size_t>(matrix->out_features), entries = static_cast<size_t>(matrix->entries);
  auto* const indptr = static_cast<int32_t*>(Allocate((rows + 1) * sizeof(int32_t)));
  auto* const indices = static_cast<int32_t*>(Allocate(entries * sizeof(int32_t)));
  const std::string wrong = UnpackBitmask(static_cast<const uint8_t*>(bits.data), matrix->out_features,
                                          matrix->in_features, matrix->entries, indptr, indices);
  if (!wrong.empty()) throw InvalidArgument(Where(first + 1, "bitmask") + " " + wrong);
  matrix->indices = indices;
  matrix->wide_indices = 1;
  matrix->indptr = indptr;
}

}  // namespace aerogel
