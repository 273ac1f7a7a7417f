#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace aerogel {
namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports asks the operating system (XGETBV) as well as cpuid: registers that are not saved at a context
// switch must not be used.
// Clang 14 does not know some features by name. F16C and AVX-VNNI live in registers that AVX2 uses.
bool HasAvx2() {
  unsigned eax, ebx, ecx, edx;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
         (ecx & (1u << 29));
}
// A bit of EAX of cpuid's leaf 7, subleaf 1.
bool HasSubleaf(int bit) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << bit));
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }
bool HasAvxVnni() { return HasAvx2() && HasSubleaf(4); }
bool HasAvx512Bf16() { return HasAvx512Vnni() && HasSubleaf(5); }
#else
constexpr const char* kNotX86 = "not an x86-64 machine";
#endif

#if defined(__aarch64__)
bool HasDot() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every 64-bit Arm machine of Apple's that runs a desktop system
#endif
}
#else
constexpr const char* kNotArm = "not a 64-bit Arm machine";
#endif

// From the plainest to the fastest.
struct Isas {
  Isa all[kIsaCount];
  Isas()
      : all{
            {"scalar", &kScalar, ""},
#if defined(__x86_64__)
            {"avx2", &kAvx2, "the CPU or the operating system lacks AVX2, FMA or F16C"},
            {"avxvnni", &kAvxVnni, "the CPU lacks AVX-VNNI, or the operating system AVX2"},
            {"avx512", &kAvx512, "the CPU or the operating system lacks AVX-512 F, BW, DQ or VL"},
            {"avx512vnni", &kAvx512Vnni, "the CPU lacks AVX-512 VNNI, or the operating system AVX-512"},
            {"avx512bf16", &kAvx512Bf16, "the CPU lacks AVX-512 BF16 or VNNI, or the operating system AVX-512"},
#else
            {"avx2", nullptr, kNotX86},       {"avxvnni", nullptr, kNotX86},    {"avx512", nullptr, kNotX86},
            {"avx512vnni", nullptr, kNotX86}, {"avx512bf16", nullptr, kNotX86},
#endif
#if defined(__aarch64__)
            {"neon", &kNeon, ""},
            {"neondot", &kNeonDot, "the CPU lacks the dot product of bytes"},
#else
            {"neon", nullptr, kNotArm},       {"neondot", nullptr, kNotArm},
#endif
        } {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has[] = {true, HasAvx2(), HasAvxVnni(), HasAvx512(), HasAvx512Vnni(), HasAvx512Bf16(), false, false};
#elif defined(__aarch64__)
    const bool has[] = {true, false, false, false, false, false, true, HasDot()};
#else
    const bool has[] = {true, false, false, false, false, false, false, false};
#endif
    for (int i = 0; i < kIsaCount; ++i) {
      if (has[i]) {
        all[i].reason = "";
      } else {
        all[i].kernels = nullptr;
      }
    }
  }
};

// What may be asked for here, as the end of a message.
std::string Available() {
  std::string names;
  for (int i = 0; i < kIsaCount; ++i) {
    if (IsaAt(i).kernels) names += std::string(i ? ", " : "") + IsaAt(i).name;
  }
  return "; available here: " + names;
}

}  // namespace

const Isa& IsaAt(int i) {
  static const Isas isas;
  return isas.all[i];
}

const KernelTable* SelectIsa(const char* name, std::string* error) {
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa& isa = IsaAt(i);
    if (std::strcmp(isa.name, name) != 0) continue;
    if (!isa.kernels) *error = std::string(name) + " is not available (" + isa.reason + ")" + Available();
    return isa.kernels;
  }
  *error = std::string("unknown instruction set '") + name + "'" + Available();
  return nullptr;
}

const KernelTable* DefaultIsa(std::string* error) {
  const char* name = std::getenv("AEROGEL_ISA");
  if (name && *name) {
    const KernelTable* named = SelectIsa(name, error);
    if (!named) *error = "AEROGEL_ISA: " + *error;
    return named;
  }
  int fastest = kIsaCount - 1;
  while (!IsaAt(fastest).kernels) --fastest;
  return IsaAt(fastest).kernels;
}

}  // namespace aerogel
