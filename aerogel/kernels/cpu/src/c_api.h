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

/* Number of instruction sets known, from the plainest to the fastest. */
AEROGEL_EXPORT int aerogel_isa_count(void);
/* Name of the i-th, and in `reason` why it cannot be used here ("" if it can). Null when i is out of range. */
AEROGEL_EXPORT const char* aerogel_isa(int i, const char** reason);
/* Name of the one in use, AEROGEL_ISA considered; null, with the reason in `error`, when that names none. */
AEROGEL_EXPORT const char* aerogel_isa_selected(char* error, size_t error_size);

/* Packs a CSR (block 1x1) or BSR matrix. data [entries, block_rows, block_cols]; indices [entries], uint16, or int32
 * if wide_indices; indptr int32 [out_features / block_rows + 1]; bias [out_features]. data and indices must outlive the
 * result, which may point into them; the rest is copied. isa: a name, or null for the one in use. Returns null, with
 * the reason in `error`, when anything is malformed. */
AEROGEL_EXPORT AerogelLinear* aerogel_linear_create(int64_t out_features, int64_t in_features, int64_t block_rows,
                                                    int64_t block_cols, int64_t entries, const float* data,
                                                    const void* indices, int wide_indices, const int32_t* indptr,
                                                    const float* bias, const char* isa, char* error, size_t error_size);
/* y [tokens, out_features] = x [tokens, in_features] W^T + bias, on `threads` threads. Returns 0, or 1 when memory
 * could not be had; threads that cannot be started are done without. */
AEROGEL_EXPORT int aerogel_linear_run(const AerogelLinear* linear, const float* x, int64_t tokens, float* y,
                                      int threads);
AEROGEL_EXPORT void aerogel_linear_destroy(AerogelLinear* linear);

#ifdef __cplusplus
}
#endif

#endif
