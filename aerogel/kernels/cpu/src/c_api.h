/* The C interface of the library, used from Python (aerogel/kernels/cpu/native.py) and usable from anywhere. Every
 * function is safe to call from several threads; none lets a C++ exception out. */
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

/* Number of instruction sets known, from the plainest to the fastest. */
AEROGEL_EXPORT int aerogel_isa_count(void);
/* Name of the i-th, and in `reason` why it cannot be used here ("" if it can). Null when i is out of range. */
AEROGEL_EXPORT const char* aerogel_isa(int i, const char** reason);
/* Name of the one in use: what the environment variable AEROGEL_ISA names, else the fastest available. Null, with the
 * reason in `error`, when AEROGEL_ISA names one that is not known or not available. */
AEROGEL_EXPORT const char* aerogel_isa_selected(char* error, size_t error_size);

enum { AEROGEL_FLOAT32 = 0, AEROGEL_FLOAT16 = 1, AEROGEL_INT8 = 2 };
enum { AEROGEL_GELU = 0, AEROGEL_GELU_TANH = 1, AEROGEL_RELU = 2 };

/* Addresses: every array must lie at a multiple of its type's size (float and int32_t 4, uint16_t 2, int64_t 8 bytes),
 * which malloc and new see to. Only the data of a matrix may lie anywhere, in a mapped file for example: where kernels
 * could not read it in place it is copied. Null pointers, where an array is needed, and other addresses are refused. */

/* A weight W [out_features, in_features] with its bias. Sparse: data [entries, block_rows, block_cols] of `kind`, a CSR
 * (blocks of 1x1) or BSR matrix; indices [entries], uint16, or int32 if wide_indices; indptr int32
 * [out_features / block_rows + 1]; scale [out_features] where kind is int8 (values in [-127, 127]), else unused. Dense:
 * indptr is null and data float32 [in_features, out_features]. bias [out_features]. */
typedef struct {
  int64_t out_features, in_features, block_rows, block_cols, entries;
  int kind, wide_indices;
  const void* data;
  const void* indices;
  const int32_t* indptr;
  const float* scale;
  const float* bias;
} AerogelMatrix;

/* Prepares a matrix. data must outlive the result, which may point into it; the rest is copied. isa: a name, or null
 * for the one in use. Returns null, with the reason in `error`, when anything is malformed. */
AEROGEL_EXPORT AerogelLinear* aerogel_linear_create(const AerogelMatrix* matrix, const char* isa, char* error,
                                                    size_t error_size);
/* y [tokens, out_features] = x [tokens, in_features] W^T + bias, on `threads` threads; y may not overlap x. With int8
 * weights activations are rounded to eight bits per token. Returns 0; 1 when memory could not be had; 2, with nothing
 * done, when x or y is null or at another address than above, or tokens is negative. Threads that cannot be started are
 * done without, and fewer than 1 count as 1. */
AEROGEL_EXPORT int aerogel_linear_run(const AerogelLinear* linear, const float* x, int64_t tokens, float* y,
                                      int threads);
AEROGEL_EXPORT void aerogel_linear_destroy(AerogelLinear* linear);

/* One post-LayerNorm encoder layer; gamma and beta have q.in_features entries and are copied. */
typedef struct {
  AerogelMatrix q, k, v, o, ffn1, ffn2;
  const float *gamma1, *beta1, *gamma2, *beta2;
} AerogelEncoderLayer;

/* Prepares a stack of layers; as aerogel_linear_create. activation: AEROGEL_GELU (erf), AEROGEL_GELU_TANH or
 * AEROGEL_RELU. first_only: whether only each sequence's first token is read from the result, so that the last layer
 * computes no other. */
AEROGEL_EXPORT AerogelEncoder* aerogel_encoder_create(const AerogelEncoderLayer* layers, int64_t count, int64_t heads,
                                                      float epsilon, int activation, int first_only, const char* isa,
                                                      char* error, size_t error_size);
/* hidden, y [batch, sequence, hidden features], or with first_only y [batch, 1, hidden features]; mask [batch,
 * sequence], nonzero for real tokens; y is zero at the others, and may not overlap hidden. Threads and what is returned
 * are as in aerogel_linear_run. */
AEROGEL_EXPORT int aerogel_encoder_run(const AerogelEncoder* encoder, const float* hidden, const int64_t* mask,
                                       int64_t batch, int64_t sequence, float* y, int threads);
AEROGEL_EXPORT void aerogel_encoder_destroy(AerogelEncoder* encoder);

#ifdef __cplusplus
}
#endif

#endif
