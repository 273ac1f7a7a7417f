#include "matrices.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace check {

const char* Name(Kind kind) {
  const char* const names[] = {"dense", "fp32", "fp16", "int8"};
  return names[static_cast<int>(kind)];
}

double HalfValue(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return fraction ? std::nan("") : sign * HUGE_VAL;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

AerogelMatrix Matrix::View() const {
  AerogelMatrix view{};
  view.out_features = out, view.in_features = in;
  view.bias = bias.data();
  view.data = values.data();
  if (kind == Kind::kDense) return view;
  view.block_rows = r, view.block_cols = c;
  view.entries = entries < 0 ? static_cast<int64_t>(indices.size()) : entries;
  view.dtype = AEROGEL_FLOAT32;
  if (kind == Kind::kFloat16) view.dtype = AEROGEL_FLOAT16, view.data = halves.data();
  if (kind == Kind::kInt8) view.dtype = AEROGEL_INT8, view.data = bytes.data(), view.scale = scale.data();
  view.wide_indices = wide;
  // Narrowed from int32 just before the call, to a buffer of exactly their size.
  narrow = std::vector<uint16_t>(indices.begin(), indices.end());
  view.indices = wide ? static_cast<const void*>(indices.data()) : narrow.data();
  view.indptr = indptr.data();
  return view;
}

Linear Matrix::Create(const char* isa, std::string* error) const {
  char text[256] = "";
  const AerogelMatrix view = View();
  Linear linear(aerogel_linear_create(&view, isa, text, sizeof text), aerogel_linear_destroy);
  *error = text;
  return linear;
}

std::string Matrix::Describe() const {
  return std::string(Name(kind)) + " " + std::to_string(out) + "x" + std::to_string(in) + " blocks " +
         std::to_string(r) + "x" + std::to_string(c) + " entries " + std::to_string(indices.size());
}

void Matrix::Append(Random& random, int32_t index) {
  indices.push_back(index);
  for (int64_t i = 0; i < r * c; ++i) {
    if (kind == Kind::kFloat16) {
      // Magnitudes below 1, mostly above 2^-7; one in eight is as small as possible.
      const auto exponent = static_cast<unsigned>(random() % 8 ? 8 + random() % 7 : random() % 15);
      const auto bits = static_cast<unsigned>(random() % 2) << 15 | exponent << 10 | random() % 1024;
      halves.push_back(static_cast<uint16_t>(bits));
      values.push_back(static_cast<float>(HalfValue(halves.back())));
    } else if (kind == Kind::kInt8) {
      // Extremes often, because they could overflow.
      const int draw = static_cast<int>(random() % 300) - 150;
      bytes.push_back(static_cast<int8_t>(std::clamp(draw, -127, 127)));
      values.push_back(bytes.back());
    } else {
      values.push_back(Uniform(random));
    }
  }
}

void Matrix::Store() {
  if (kind == Kind::kInt8) bytes.assign(values.begin(), values.end());
}

double Matrix::At(int64_t row, int64_t column) const {
  if (kind == Kind::kDense) return values[static_cast<size_t>(column * out + row)];
  for (int32_t i = indptr[row / r]; i < indptr[row / r + 1]; ++i) {
    if (indices[i] == column / c) return values[static_cast<size_t>((i * r + row % r) * c + column % c)];
  }
  return 0;
}

Matrix Start(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c) {
  Matrix m;
  m.kind = kind;
  m.out = out, m.in = in, m.r = r, m.c = c;
  m.wide = random() % 2 != 0;
  m.bias = Uniforms(random, out);
  if (kind == Kind::kInt8) {
    for (int64_t n = 0; n < out; ++n) m.scale.push_back(n % 11 == 10 ? 0.0f : 0.01f * Uniform(random));
  }
  if (kind == Kind::kDense) {
    m.values = Uniforms(random, in * out);
  } else {
    m.indptr.push_back(0);
  }
  return m;
}

Matrix Make(Random& random, Kind kind, int64_t out, int64_t in, int64_t r, int64_t c, double density, bool gaps) {
  Matrix m = Start(random, kind, out, in, r, c);
  if (kind == Kind::kDense) return m;
  std::bernoulli_distribution keep(density);
  for (int64_t row = 0; row < out / r; ++row) {
    for (int64_t col = 0; col < in / c && !(gaps && row % 3 == 1); ++col) {
      if (keep(random) && !(gaps && col % 5 == 2)) m.Append(random, static_cast<int32_t>(col));
    }
    m.EndRow();
  }
  return m;
}

Matrix MakeRows(Random& random, Kind kind, const std::vector<int64_t>& lengths, int64_t in, int64_t r, int64_t c) {
  Matrix m = Start(random, kind, static_cast<int64_t>(lengths.size()) * r, in, r, c);
  std::vector<int32_t> columns(static_cast<size_t>(in / c));
  for (const int64_t length : lengths) {
    std::iota(columns.begin(), columns.end(), 0);
    std::shuffle(columns.begin(), columns.end(), random);
    std::sort(columns.begin(), columns.begin() + length);
    for (int64_t i = 0; i < length; ++i) m.Append(random, columns[static_cast<size_t>(i)]);
    m.EndRow();
  }
  return m;
}

bool Valid(const Matrix& m) {
  if (m.kind == Kind::kDense) return true;
  const int64_t rows = m.out / m.r, entries = static_cast<int64_t>(m.indices.size());
  if (m.indptr[0] != 0 || m.indptr[rows] != entries) return false;
  for (int64_t row = 0; row < rows; ++row) {
    if (m.indptr[row] > m.indptr[row + 1] || m.indptr[row + 1] > entries) return false;
    int64_t before = -1;
    for (int64_t i = m.indptr[row]; i < m.indptr[row + 1]; ++i) {
      const int64_t index = m.wide ? m.indices[i] : static_cast<uint16_t>(m.indices[i]);
      if (index <= before || index >= m.in / m.c) return false;
      before = index;
    }
  }
  return std::find(m.bytes.begin(), m.bytes.end(), -128) == m.bytes.end();
}

double Quantize(const float* x, int64_t count, std::vector<int32_t>* q) {
  float most = 1e-20f;
  for (int64_t k = 0; k < count; ++k) most = std::max(most, std::fabs(x[k]));
  const float inverse = 127.0f / most;
  q->clear();
  // nearbyint rounds half to even in the default mode.
  for (int64_t k = 0; k < count; ++k) q->push_back(static_cast<int32_t>(std::nearbyint(x[k] * inverse)));
  return double{most} / 127.0;
}

Product Multiply(const Matrix& m, const std::vector<float>& x, int64_t tokens) {
  Product product;
  product.y.reserve(static_cast<size_t>(tokens * m.out));
  std::vector<int32_t> q;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* const xt = x.data() + t * m.in;
    const double token_scale = m.kind == Kind::kInt8 ? Quantize(xt, m.in, &q) : 0;
    for (int64_t n = 0; n < m.out; ++n) {
      double sum = 0, magnitude = 0;
      const auto add = [&](int64_t k, float weight) {
        const double term = m.kind == Kind::kInt8 ? double{weight} * q[static_cast<size_t>(k)] : double{weight} * xt[k];
        sum += term, magnitude += std::fabs(term);
      };
      if (m.kind == Kind::kDense) {
        for (int64_t k = 0; k < m.in; ++k) add(k, m.values[static_cast<size_t>(k * m.out + n)]);
      } else {
        for (int32_t i = m.indptr[n / m.r]; i < m.indptr[n / m.r + 1]; ++i) {
          const float* const row = m.values.data() + (i * m.r + n % m.r) * m.c;
          for (int64_t j = 0; j < m.c; ++j) add(m.indices[i] * m.c + j, row[j]);
        }
      }
      if (m.kind == Kind::kInt8) {
        sum *= token_scale * m.scale[static_cast<size_t>(n)];
        magnitude = std::fabs(sum);
      }
      const double bias = m.bias[static_cast<size_t>(n)], units = m.kind == Kind::kInt8 ? 4 : 16;
      product.y.push_back(sum + bias);
      product.bound.push_back(units * kEpsilon * (magnitude + std::fabs(bias) + 1e-30));
    }
  }
  return product;
}

std::vector<float> Activations(Random& random, const Matrix& m, int64_t tokens) {
  std::vector<float> x = Uniforms(random, tokens * m.in);
  if (m.kind != Kind::kInt8 || tokens < 6) return x;
  for (int64_t k = 0; k < m.in; ++k) {
    float* const at = x.data() + k;
    // m = 127 makes the factor 1: halves stay halves.
    at[0 * m.in] = k == 0 ? -127.0f : static_cast<float>(static_cast<int>(random() % 252) - 126) + 0.5f;
    at[1 * m.in] = 0.0f;
    at[2 * m.in] *= 1e-25f;
    at[3 * m.in] *= 1e30f;
    at[4 * m.in] = k == m.in / 2 ? 5.0f : 1e-42f;
  }
  return x;
}

void Compare(const std::string& what, const std::vector<float>& y, const Product& expected) {
  for (size_t i = 0; i < y.size(); ++i) {
    if (std::fabs(y[i] - expected.y[i]) <= expected.bound[i]) continue;
    Fail(what + ": y[" + std::to_string(i) + "] is " + std::to_string(y[i]) + ", expected " +
         std::to_string(expected.y[i]) + ", off by " +
         std::to_string(std::fabs(y[i] - expected.y[i]) / expected.bound[i]) + " times what may be");
    return;
  }
}

}  // namespace check
