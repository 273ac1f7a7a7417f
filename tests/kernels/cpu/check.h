// Shared by the test programs: failure reports, random numbers, instruction sets, the command line.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "c_api.h"

namespace check {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

using Random = std::mt19937_64;

inline int failures = 0;

inline void Fail(const std::string& what) {
  if (++failures <= 50) std::printf("FAILED %s\n", what.c_str());
}

inline float Uniform(Random& random) { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(random); }

inline std::vector<float> Uniforms(Random& random, int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& x : numbers) x = Uniform(random);
  return numbers;
}

// A buffer of exactly `count` NaN, which a kernel must overwrite.
inline std::vector<float> Poisoned(int64_t count) { return std::vector<float>(static_cast<size_t>(count), kNaN); }

inline bool SameBits(const float* a, const float* b, int64_t count) {
  return count == 0 || std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

// The instruction sets of this machine. Prints all, so that a missing one does not look tested.
inline std::vector<const char*> Isas() {
  std::vector<const char*> available;
  for (int i = 0; i < aerogel_isa_count(); ++i) {
    const char* reason = nullptr;
    const char* name = aerogel_isa(i, &reason);
    std::printf("%-10s %s\n", name, *reason ? reason : "tested");
    if (!*reason) available.push_back(name);
  }
  return available;
}

// The number after `flag` on the command line.
inline uint64_t Option(int argc, char** argv, const char* flag, uint64_t otherwise) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], flag)) return std::strtoull(argv[i + 1], nullptr, 10);
  }
  return otherwise;
}

// Prints the result; returns the exit code of main.
inline int Finish(uint64_t seed) {
  std::printf("%s, seed %llu\n", failures ? "FAILED" : "passed", static_cast<unsigned long long>(seed));
  return failures != 0;
}

}  // namespace check
