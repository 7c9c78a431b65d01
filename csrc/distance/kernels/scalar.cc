// Plain C++, for every machine, and the reference the other levels are tested against. A "register" is one element and
// the sums are independent of each other, which leaves the compiler free to use the base vector set of the architecture
// for them.
#include "distance/kernels/table.h"
#include "distance/kernels/words.h"

namespace akidb {
namespace {

struct Float {
  using Element = float;
  using Reg = float;
  using Loaded = float;
  static constexpr std::size_t kLanes = 1;
  static constexpr int kParts = 1;
  static constexpr int kTotalled = 4;
  static constexpr int kRowsAtOnce = 1;
  static constexpr int kLoadsAtOnce = 32;
  static constexpr int kTileQueries = 1;
  static constexpr int kPanelRegisters = 8;
  static constexpr int kPanelRows = 2;
  using Four = const float*;

  AKIDB_INLINE static Reg zero() { return 0.0F; }
  AKIDB_INLINE static Reg load(const float* p) { return *p; }
  AKIDB_INLINE static Reg load_tail(const float*, std::size_t) { return 0.0F; }  // a part of one float is none
  template <int>
  AKIDB_INLINE static Reg part(Reg r) {
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return a + b; }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return a - b; }
  // Rounds once where the base of the architecture has such an instruction (ARM). x86-64's has not, and the slow call
  // that stands for it would take ten times as long: there, alone of all levels, this one rounds twice.
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) {
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
  }
  AKIDB_INLINE static void store(float* p, Reg r) { *p = r; }
  AKIDB_INLINE static Four load_four(const float* p) { return p; }
  template <int kElement>
  AKIDB_INLINE static Reg fma_element(Reg a, Four b, Reg c) {
    return fma(a, b[kElement], c);
  }
  AKIDB_INLINE static float total(const Reg* r) { return (r[0] + r[1]) + (r[2] + r[3]); }
};

struct Half : Float {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg load(const Element* p) { return float_of_half(*p); }
  AKIDB_INLINE static Reg load_tail(const Element*, std::size_t) { return 0.0F; }
};

struct BFloat : Float {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg load(const Element* p) { return float_of_bfloat(*p); }
  AKIDB_INLINE static Reg load_tail(const Element*, std::size_t) { return 0.0F; }
};

template <class Byte>
struct Integers : WholeBytes {
  static constexpr std::size_t kBytes = 1;
  static constexpr int kSumsOfOne = 1;
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 1;
  using Reg = std::int32_t;
  using Sum = std::uint32_t;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return static_cast<Byte>(*p); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t*, std::size_t) { return 0; }
  AKIDB_INLINE static Sum zero() { return 0; }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return a + b; }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return s; }
};

template <class Byte>
struct SquaredDifferences : Integers<Byte> {
  using Value = std::uint32_t;
  AKIDB_INLINE static std::uint32_t step(std::uint32_t sum, std::int32_t a, std::int32_t b) {
    return sum + static_cast<std::uint32_t>((a - b) * (a - b));
  }
};

template <class Byte, class Total>
struct Products : Integers<Byte> {
  using Value = Total;
  AKIDB_INLINE static std::uint32_t step(std::uint32_t sum, std::int32_t a, std::int32_t b) {
    return sum + static_cast<std::uint32_t>(a * b);
  }
};

struct DifferingBits : WordBits {
  // Pairs, nibbles and bytes are counted side by side (Warren, "Hacker's Delight", 5-1).
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    Reg x = a ^ b;
    x -= x >> 1 & 0x5555555555555555U;
    x = (x & 0x3333333333333333U) + (x >> 2 & 0x3333333333333333U);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0FU;
    return sum + static_cast<Sum>(x * 0x0101010101010101U >> 56);
  }
};

// A "register" is the 32 bytes that hold a block of 4-bit codes: the compiler is left to see how best to go through it.
struct CodeBytes {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfDot4 = 1;
  using Codes = const std::uint8_t*;
  using Query = const std::int8_t*;
  using Sum = std::int32_t;

  AKIDB_INLINE static Codes load(const std::uint8_t* p) { return p; }
  AKIDB_INLINE static Query load_query(const std::int8_t* p) { return p; }
  AKIDB_INLINE static Sum zero() { return 0; }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return a + b; }
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) {
    for (std::size_t i = 0; i < kBytes; ++i) sum += c[i] * q[i];
    return sum;
  }
  AKIDB_INLINE static void dot4(Sum& sum, Sum&, Codes c, Query q_low, Query q_high) {
    for (std::size_t i = 0; i < kBytes; ++i) sum += (c[i] & 15) * q_low[i] + (c[i] >> 4) * q_high[i];
  }
  AKIDB_INLINE static std::int32_t total(Sum s) { return s; }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }

  static constexpr int kPanelRows = 1;
  static constexpr int kPanelQueries = 1;
  AKIDB_INLINE static std::int32_t missing_in_panel(const std::int8_t*, std::size_t) { return 0; }
  using PanelRows = const std::uint8_t*;
  using Values = const std::int8_t*;
  using PanelSum = std::int32_t;
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) { return p; }
  AKIDB_INLINE static Values load_values(const std::int8_t* p) { return p; }
  AKIDB_INLINE static PanelSum no_sum() { return 0; }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, PanelRows rows, Values values) {
    for (std::size_t i = 0; i < 4; ++i) sum += rows[i] * values[4 * kFour + i];
  }
  AKIDB_INLINE static void store_sum(std::int32_t* out, PanelSum sum, std::int32_t more) { *out = sum + more; }
};

}  // namespace

namespace scalar {
constexpr Kernels kKernels = table<CodeBytes, Float>(
    SimdLevel::kScalar, "scalar", floats<Float>(), floats<Half>(), floats<BFloat>(),
    bytes<SquaredDifferences<std::int8_t>, Products<std::int8_t, std::int32_t>>(),
    bytes<SquaredDifferences<std::uint8_t>, Products<std::uint8_t, std::uint32_t>>(), bits<DifferingBits>());
}
}  // namespace akidb
