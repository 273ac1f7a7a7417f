#include "dispatch.h"

#include <cstdlib>
#include <cstring>

namespace aerogel {
namespace {

#if defined(__x86_64__)
constexpr const char* kNoNeon = "not an Arm machine";
// __builtin_cpu_supports asks the operating system (XGETBV) as well as cpuid: registers that are not saved at a context
// switch must not be used.
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
constexpr const char* kNotX86 = "not an x86-64 machine";
#endif

struct Isas {
  Isa all[kIsaCount];
  Isas()
      : all{{"scalar", kScalar, kScalarStages, ""},
#if defined(__x86_64__)
            {"avx2", nullptr, nullptr, "the CPU or the operating system lacks AVX2 or FMA"},
            {"avx512", nullptr, nullptr, "the CPU or the operating system lacks AVX-512 F, BW, DQ or VL"},
            {"neon", nullptr, nullptr, kNoNeon}}
#else
            {"avx2", nullptr, nullptr, kNotX86},
            {"avx512", nullptr, nullptr, kNotX86},
#if defined(__aarch64__)
            {"neon", kNeon, kNeonStages, ""}}
#else
            {"neon", nullptr, nullptr, "not a 64-bit Arm machine"}}
#endif
#endif
  {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (HasAvx2()) all[1] = {"avx2", kAvx2, kAvx2Stages, ""};
    if (HasAvx512()) all[2] = {"avx512", kAvx512, kAvx512Stages, ""};
#endif
  }
};

std::string UnknownIsa(const char* name) {
  std::string message = std::string("unknown instruction set '") + name + "'; known:";
  for (int i = 0; i < kIsaCount; ++i) message += std::string(i ? ", " : " ") + IsaAt(i).name;
  return message;
}

int Find(const char* name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (std::strcmp(IsaAt(i).name, name) == 0) return i;
  }
  return -1;
}

}  // namespace

const Isa& IsaAt(int i) {
  static const Isas isas;
  return isas.all[i];
}

const KernelTable* SelectIsa(const char* name, std::string* error) {
  const int i = Find(name);
  if (i < 0) {
    *error = UnknownIsa(name);
    return nullptr;
  }
  if (!IsaAt(i).kernels) *error = std::string(name) + " is not available: " + IsaAt(i).reason;
  return IsaAt(i).kernels;
}

const StageTable& StagesOf(const KernelTable& kernels) {
  int i = 0;
  while (IsaAt(i).kernels != &kernels) ++i;
  return *IsaAt(i).stages;
}

const KernelTable* DefaultIsa(std::string* error) {
  int cap = kIsaCount - 1;
  const char* name = std::getenv("AEROGEL_ISA");
  if (name && *name) {
    cap = Find(name);
    if (cap < 0) {
      *error = "AEROGEL_ISA: " + UnknownIsa(name);
      return nullptr;
    }
  }
  while (!IsaAt(cap).kernels) --cap;
  return IsaAt(cap).kernels;
}

}  // namespace aerogel
