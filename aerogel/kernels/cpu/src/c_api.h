/* The C interface of the library, used from Python (aerogel/kernels/cpu/native.py) and usable from any language. Every
 * function may be called from several threads at once; none throws. */
#ifndef AEROGEL_C_API_H_
#define AEROGEL_C_API_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define AEROGEL_EXPORT __declspec(dllexport)
#else
#define AEROGEL_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct AerogelLinear AerogelLinear;
typedef struct AerogelEncoder AerogelEncoder;

/* Number of instruction sets that the library knows, from the slowest to the fastest. */
AEROGEL_EXPORT int aerogel_isa_count(void);
/* Name of the i-th. `reason`, unless null, receives why it cannot be used here, or "". Null when i is out of range. */
AEROGEL_EXPORT const char* aerogel_isa(int i, const char** reason);
/* Name of the one in use: that which the environment variable AEROGEL_ISA names, or the fastest available if it is not
 * set. Null, with the reason in `error`, when AEROGEL_ISA names one that is unknown or not available. */
AEROGEL_EXPORT const char* aerogel_isa_selected(char* error, size_t error_size);

enum { AEROGEL_FLOAT32 = 0, AEROGEL_FLOAT16 = 1, AEROGEL_INT8 = 2 };
enum { AEROGEL_GELU = 0, AEROGEL_GELU_TANH = 1, AEROGEL_RELU = 2 };

/* Addresses: every array must be aligned to its type's size (float and int32_t 4, uint16_t 2, int64_t 8 bytes), as
 * memory from malloc and new is. Only the data of a matrix may have any address, in a mapped file for example; it is
 * copied where kernels could not read it. Other addresses, and null where an array is needed, are refused. */

/* A weight W [out_features, in_features] with its bias. Sparse: data [entries, block_rows, block_cols] of `dtype`, a
 * CSR (blocks of 1x1) or BSR matrix; indices [entries], uint16, or int32 if wide_indices; indptr int32 [out_features /
 * block_rows + 1]; scale [out_features] where dtype is int8 (values in [-127, 127]), else unused. Dense: indptr is null
 * and data float32 [in_features, out_features]. bias [out_features]. */
typedef struct {
  int64_t out_features, in_features, block_rows, block_cols, entries;
  int dtype, wide_indices;
  const void* data;
  const void* indices;
  const int32_t* indptr;
  const float* scale;
  const float* bias;
} AerogelMatrix;

/* What the time of a product with a packed sparse matrix depends on; packed.h explains the terms. */
typedef struct {
  int64_t panel_rows;      /* rows of a panel: 1, 2 or 4 */
  int64_t column_features; /* features of a column: 1, or 4 of eight-bit values */
  int64_t chunks;          /* pieces of rows, the unit of parallel work */
  int64_t tiles;           /* pieces of columns whose activations stay in the first-level cache */
  int64_t groups;          /* in each chunk and tile the different lengths of panels, added up */
  int64_t panels;          /* in each chunk and tile the panels with an entry, added up */
  int64_t slots;           /* stored pairs (panel, column), each with panel_rows * column_features values */
  int64_t all_slots;       /* slots of the same matrix without a zero */
  int64_t padding;         /* values of stored slots that the matrix does not store; they are zero */
  int64_t bytes;           /* that one product reads of the matrix */
} AerogelMatrixStats;

/* Fills `stats` with those of a sparse matrix as it is packed on this machine for an instruction set: a name, or null
 * for the one in use. Of the matrix, scale and bias are not read and may be null. Returns 0; 1, with the reason in
 * `error`, when the matrix is dense or malformed or the instruction set cannot be used. */
AEROGEL_EXPORT int aerogel_matrix_stats(const AerogelMatrix* matrix, const char* isa, AerogelMatrixStats* stats,
                                        char* error, size_t error_size);

/* Unpacks a matrix that is stored as a bitmask, as ONNX files of format "bitmask" have it: bits [rows, ceil(columns /
 * 8)], of each byte the lowest bit first, set where a weight is kept; data has the kept values in the same order. Fills
 * indptr [rows + 1] and indices [entries] of the CSR matrix with the same data. Returns 0; 1, with the reason in
 * `error`, when a size is out of range, an array is missing or misaligned, or the bits are not `entries` in number, all
 * in `columns`. */
AEROGEL_EXPORT int aerogel_bitmask_unpack(const uint8_t* bits, int64_t rows, int64_t columns, int64_t entries,
                                          int32_t* indptr, int32_t* indices, char* error, size_t error_size);

/* Prepares a matrix. data must outlive the result, which may point into it; the rest is copied. isa: a name, or null
 * for the one in use. Returns null, with the reason in `error`, when anything is malformed. */
AEROGEL_EXPORT AerogelLinear* aerogel_linear_create(const AerogelMatrix* matrix, const char* isa, char* error,
                                                    size_t error_size);
/* y [tokens, out_features] = x [tokens, in_features] W^T + bias, on `threads` threads; y may not overlap x. With int8
 * weights activations are rounded to eight bits per token. Returns 0; 1 when out of memory; 2, with nothing
 * done, when x or y is null or misaligned, or tokens is negative. If threads cannot be started the others do their
 * work; `threads` below 1 count as 1. */
AEROGEL_EXPORT int aerogel_linear_run(const AerogelLinear* linear, const float* x, int64_t tokens, float* y,
                                      int threads);
AEROGEL_EXPORT void aerogel_linear_destroy(AerogelLinear* linear);

/* One post-LayerNorm encoder layer; gamma and beta have q.in_features entries and are copied. */
typedef struct {
  AerogelMatrix q, k, v, o, ffn1, ffn2;
  const float *gamma1, *beta1, *gamma2, *beta2;
} AerogelEncoderLayer;

/* Prepares a stack of layers; as aerogel_linear_create. activation: AEROGEL_GELU (erf), AEROGEL_GELU_TANH or
 * AEROGEL_RELU. first_token_only: whether only each sequence's first token is read from the result, so that the last
 * layer computes no other. */
AEROGEL_EXPORT AerogelEncoder* aerogel_encoder_create(const AerogelEncoderLayer* layers, int64_t count, int64_t heads,
                                                      float epsilon, int activation, int first_token_only,
                                                      const char* isa, char* error, size_t error_size);
/* hidden, y [batch, sequence, hidden features], or with first_token_only y [batch, 1, hidden features]; mask [batch,
 * sequence], nonzero for real tokens; y is zero at the others, and may not overlap hidden. Threads and what is returned
 * are as in aerogel_linear_run. */
AEROGEL_EXPORT int aerogel_encoder_run(const AerogelEncoder* encoder, const float* hidden, const int64_t* mask,
                                       int64_t batch, int64_t sequence, float* y, int threads);
AEROGEL_EXPORT void aerogel_encoder_destroy(AerogelEncoder* encoder);

#ifdef __cplusplus
}
#endif

#endif
