// Which instruction sets this library knows, which of them this machine supports, and which one is used.
#pragma once

#include <string>

#include "isa_list.h"
#include "kernels.h"

namespace aerogel {

struct Isa {
  const char* name;
  const KernelTable* kernels;  // null where `reason` says why
  const char* reason;          // empty where available
};

#define AEROGEL_COUNT(...) +1
constexpr int kIsaCount = 0 AEROGEL_ISA_LIST(AEROGEL_COUNT);
#undef AEROGEL_COUNT

// The i-th entry of isa_list.h, i in [0, kIsaCount).
const Isa& IsaAt(int i);

// The kernels of the instruction set called `name`. Null, with `error` set, if it is unknown or not available.
const KernelTable* SelectIsa(const char* name, std::string* error);

// The kernels to use: those of the instruction set that the environment variable AEROGEL_ISA names, see SelectIsa, or
// of the fastest available if it is unset or empty.
const KernelTable* DefaultIsa(std::string* error);

}  // namespace aerogel
