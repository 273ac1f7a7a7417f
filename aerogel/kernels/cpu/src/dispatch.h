// Which instruction sets this build has, which of them this machine runs, and which one is used.
#pragma once

#include <string>

#include "kernels.h"

namespace aerogel {

struct Isa {
  const char* name;
  const KernelTable* kernels;  // null where `reason` says why not
  const char* reason;          // empty where available
};

// From the plainest to the fastest; always begins with scalar.
constexpr int kIsaCount = 8;
const Isa& IsaAt(int i);

// The one called `name`. Null, with `error` set, when it is not known or not available.
const KernelTable* SelectIsa(const char* name, std::string* error);

// The one that the environment variable AEROGEL_ISA names, as SelectIsa; the fastest available where it names none.
const KernelTable* DefaultIsa(std::string* error);

}  // namespace aerogel
