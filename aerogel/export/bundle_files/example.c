/* Run the model of this folder on token ids, with ONNX Runtime's C API.

   cc example.c -I ORT/include -L ORT/lib -lonnxruntime -Wl,-rpath,ORT/lib -o example
   ./example model.onnx ./libaerogel.so 101 7592 102

   ORT is an unpacked release of ONNX Runtime 1.17 or newer, which has onnxruntime_c_api.h. Pass "-" instead of the
   library to run at dense speed. Token ids come from the model's tokenizer (tokenizer.json). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

#define MOST_TOKENS 512
#define MOST_PORTS 8

static const OrtApi* ort;

static void check(OrtStatus* status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  exit(1);
}

int main(int argc, char** argv) {
  if (argc < 4 || argc - 3 > MOST_TOKENS) {
    fprintf(stderr, "usage: example MODEL LIBRARY TOKEN_ID...\n");
    return 2;
  }
  ort = OrtGetApiBase()->GetApi(17); /* of release 1.17 */
  if (ort == NULL) {
    fprintf(stderr, "ONNX Runtime is older than 1.17\n");
    return 1;
  }
  OrtEnv* env;
  OrtSessionOptions* options;
  OrtSession* session;
  OrtAllocator* allocator;
  OrtMemoryInfo* memory;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "example", &env));
  check(ort->CreateSessionOptions(&options));
  if (strcmp(argv[2], "-") != 0) check(ort->RegisterCustomOpsLibrary_V2(options, argv[2]));
  check(ort->CreateSession(env, argv[1], options, &session));
  check(ort->GetAllocatorWithDefaultOptions(&allocator));
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

  /* One text: its ids, a mask of ones, and segments of zeros. */
  int64_t ids[MOST_TOKENS], ones[MOST_TOKENS], zeros[MOST_TOKENS] = {0};
  int64_t shape[2] = {1, argc - 3};
  size_t bytes = (size_t)shape[1] * sizeof(int64_t), inputs, outputs;
  for (int i = 0; i < shape[1]; ++i) {
    ids[i] = atoll(argv[3 + i]);
    ones[i] = 1;
  }
  check(ort->SessionGetInputCount(session, &inputs));
  check(ort->SessionGetOutputCount(session, &outputs));
  if (inputs > MOST_PORTS || outputs > MOST_PORTS) return 1;
  char *names[MOST_PORTS], *results[MOST_PORTS];
  OrtValue *values[MOST_PORTS], *found[MOST_PORTS] = {NULL};
  for (size_t i = 0; i < inputs; ++i) {
    check(ort->SessionGetInputName(session, i, allocator, &names[i]));
    int64_t* data = strcmp(names[i], "input_ids") == 0 ? ids : strcmp(names[i], "attention_mask") == 0 ? ones : zeros;
    check(ort->CreateTensorWithDataAsOrtValue(memory, data, bytes, shape, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                              &values[i]));
  }
  for (size_t i = 0; i < outputs; ++i) check(ort->SessionGetOutputName(session, i, allocator, &results[i]));
  check(ort->Run(session, NULL, (const char* const*)names, (const OrtValue* const*)values, inputs,
                 (const char* const*)results, outputs, found));

  for (size_t i = 0; i < outputs; ++i) {
    OrtTensorTypeAndShapeInfo* info;
    size_t count;
    float* data;
    check(ort->GetTensorTypeAndShape(found[i], &info));
    check(ort->GetTensorShapeElementCount(info, &count));
    check(ort->GetTensorMutableData(found[i], (void**)&data));
    printf("%s", results[i]);
    for (size_t j = 0; j < count && j < 5; ++j) printf(" %.5f", data[j]);
    printf("\n");
    ort->ReleaseTensorTypeAndShapeInfo(info);
    ort->ReleaseValue(found[i]);
    check(ort->AllocatorFree(allocator, results[i]));
  }
  for (size_t i = 0; i < inputs; ++i) {
    ort->ReleaseValue(values[i]);
    check(ort->AllocatorFree(allocator, names[i]));
  }
  ort->ReleaseMemoryInfo(memory);
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(env);
  return 0;
}
