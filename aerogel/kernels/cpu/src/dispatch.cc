#include "dispatch.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace aerogel {

// The tables of the entries that are compiled for this architecture, and what the others say instead.
#if defined(__x86_64__)
#define AEROGEL_IF_X86(compiled, absent) compiled
#else
#define AEROGEL_IF_X86(compiled, absent) absent
#endif
#if defined(__aarch64__)
#define AEROGEL_IF_ARM(compiled, absent) compiled
#else
#define AEROGEL_IF_ARM(compiled, absent) absent
#endif
#define AEROGEL_IF_ANY(compiled, absent) compiled
#define AEROGEL_NOT_X86 "not an x86-64 machine"
#define AEROGEL_NOT_ARM "not a 64-bit Arm machine"

// linear.cc, once per instruction set.
#define AEROGEL_DECLARE(name, ...)   \
  namespace name {                   \
  extern const KernelTable kKernels; \
  }
AEROGEL_ISA_LIST(AEROGEL_DECLARE)

namespace {

bool Always() { return true; }

#if defined(__x86_64__)
// __builtin_cpu_supports asks the operating system (XGETBV) as well as cpuid: registers that are not saved at a context
// switch must not be used. Clang 14 does not know some features by name; F16C and AVX-VNNI use the registers of AVX2.
bool HasAvx2() {
  unsigned eax, ebx, ecx, edx;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
         (ecx & (1u << 29));
}
// Whether `bit` of EAX of cpuid's leaf 7, subleaf 1, is set.
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
#elif defined(__aarch64__)
bool HasNeonDot() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every 64-bit Arm machine of Apple's that runs a desktop system
#endif
}
#endif

// An entry that is compiled for this architecture.
Isa Compiled(const char* name, const KernelTable& kernels, bool available, const char* reason) {
  return available ? Isa{name, &kernels, ""} : Isa{name, nullptr, reason};
}
// An entry of another architecture.
Isa Absent(const char* name, const char* reason) { return {name, nullptr, reason}; }

struct Isas {
  std::vector<Isa> all;  // [kIsaCount]
  Isas() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#define AEROGEL_ADD(name, header, architecture, available, reason, flags)                       \
  all.push_back(AEROGEL_IF_##architecture(Compiled(#name, name::kKernels, available(), reason), \
                                          Absent(#name, AEROGEL_NOT_##architecture)));
    AEROGEL_ISA_LIST(AEROGEL_ADD)
#undef AEROGEL_ADD
  }
};

// The names of those that are available, as the end of a message.
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
  return isas.all[static_cast<size_t>(i)];
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
