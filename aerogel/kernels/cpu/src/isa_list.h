// The instruction sets that the kernels are compiled for. This is the only list of them: CMakeLists.txt reads it to
// compile linear.cc, elementwise.cc and attention.cc once per entry, and dispatch.cc expands it to choose an entry at
// run time. The tests run for every entry that the machine supports.
//
// To add one, write simd_<header>.h (and weight_load_<header>.h) and add an entry; nothing else changes.
//
//   ISA(name, header, architecture, available, reason, flags)
//
//   name          namespace of its code, and its name in AEROGEL_ISA and in the output of `aerogel env`
//   header        which simd_<header>.h and weight_load_<header>.h implement it; several entries may share one
//   architecture  ANY, X86 or ARM; the entry is compiled for no other
//   available     function of dispatch.cc: whether the CPU and the operating system support it
//   reason        shown where `available` returns false
//   flags         compiler flags; the headers see them as the compiler's own macros, such as __AVX512VNNI__
//
// Entries go from slowest to fastest: the last available one is the default. The first is available everywhere.
#pragma once

// clang-format off
#define AEROGEL_ISA_LIST(ISA)                                                                                         \
  ISA(scalar, scalar, ANY, Always, "",                                                                                \
      "")                                                                                                             \
  ISA(avx2, avx2, X86, HasAvx2, "the CPU or the operating system lacks AVX2, FMA or F16C",                            \
      "-mavx2 -mfma -mf16c")                                                                                          \
  ISA(avxvnni, avx2, X86, HasAvxVnni, "the CPU lacks AVX-VNNI, or the operating system AVX2",                         \
      "-mavx2 -mfma -mf16c -mavxvnni")                                                                                \
  ISA(avx512, avx512, X86, HasAvx512, "the CPU or the operating system lacks AVX-512 F, BW, DQ or VL",                \
      "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl")                                               \
  ISA(avx512vnni, avx512, X86, HasAvx512Vnni, "the CPU lacks AVX-512 VNNI, or the operating system AVX-512",          \
      "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni")                                  \
  ISA(avx512bf16, avx512, X86, HasAvx512Bf16,                                                                         \
      "the CPU lacks AVX-512 BF16 or VNNI, or the operating system AVX-512",                                          \
      "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16")                     \
  ISA(neon, neon, ARM, Always, "",                                                                                    \
      "")                                                                                                             \
  ISA(neondot, neon, ARM, HasNeonDot, "the CPU lacks the dot product of bytes",                                       \
      "-march=armv8.2-a+dotprod")
// clang-format on
