// How the loops of the kernels are made straight. Loops over sums and rows have constant bounds; unrolled completely,
// the sums live in registers.
#pragma once

#define AKIDB_INLINE [[gnu::always_inline]] inline
#if defined(__clang__)
#define AKIDB_UNROLL _Pragma("unroll")
#else
#define AKIDB_UNROLL _Pragma("GCC unroll 16")
#endif
