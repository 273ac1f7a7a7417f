// The result of checking a matrix.
#pragma once

#include <string>

namespace aerogel {

// The arrays of a matrix, in the order in which operators take them, and its sizes.
enum class MatrixPart { kSizes, kData, kIndices, kIndptr };

// The name of a part, for messages.
inline const char* Name(MatrixPart part) {
  const char* const names[] = {"sizes", "data", "indices", "indptr"};
  return names[static_cast<int>(part)];
}

// OK, or which part of a matrix is malformed and how.
struct Status {
  MatrixPart part = MatrixPart::kSizes;
  std::string message;  // empty if OK; a predicate whose subject is `part`, but a whole sentence for kSizes

  bool ok() const { return message.empty(); }
  // The message with its subject.
  std::string ToString() const {
    return part == MatrixPart::kSizes ? message : std::string(Name(part)) + " " + message;
  }
};

}  // namespace aerogel
