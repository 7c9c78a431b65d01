// AVX2 with FMA, F16C and POPCNT: Haswell, Zen and later. Two loads per cycle feed one FMA per cycle of latency 4, so
// the four sums of floats.h keep a single row busy; sixteen registers hold those of two rows.
#include <immintrin.h>

#include "distance/kernels/table.h"
#include "distance/kernels/words.h"
#include "distance/kernels/xmm.h"
#include "distance/kernels/ymm_codes.h"

namespace akidb {
namespace {

alignas(32) constexpr int kTailMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Ymm {
  using Element = float;
  using Reg = __m256;
  using Loaded = Reg;
  static constexpr std::size_t kLanes = 8;
  static constexpr int kParts = 1;
  static constexpr int kTotalled = 1;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int kLoadsAtOnce = 4;
  static constexpr int kTileQueries = 2;
  static constexpr int kPanelRegisters = 2;
  static constexpr int kPanelRows = 6;
  using Four = const float*;

  AKIDB_INLINE static Reg zero() { return _mm256_setzero_ps(); }
  AKIDB_INLINE static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  // A masked lane is not read, so a vector may end at the end of a page.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    return _mm256_maskload_ps(p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kTailMask + 8 - n)));
  }
  template <int>
  AKIDB_INLINE static Reg part(Reg r) {
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  AKIDB_INLINE static void store(float* p, Reg r) { _mm256_storeu_ps(p, r); }
  AKIDB_INLINE static Four load_four(const float* p) { return p; }
  template <int kElement>
  AKIDB_INLINE static Reg fma_element(Reg a, Four b, Reg c) {
    return fma(a, _mm256_set1_ps(b[kElement]), c);
  }
  AKIDB_INLINE static float total(const Reg* r) { return total_of_four(four(*r)); }
};

struct YmmHalf : Ymm {
  using Element = std::uint16_t;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 2;
  AKIDB_INLINE static Reg load(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) {
    return load(Padded<16>(reinterpret_cast<const std::uint8_t*>(p), n * sizeof *p).bytes);
  }
};

// A shift makes floats of the even elements of a register, a mask of the odd ones: cheaper than unpacking them in
// order, which the last two sums of a row see to.
struct YmmBFloat : Ymm {
  using Element = std::uint16_t;
  using Loaded = __m256i;
  static constexpr int kParts = 2;
  static constexpr int kTotalled = 2;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 1;
  static constexpr int kTileQueries = 1;

  AKIDB_INLINE static Loaded load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  AKIDB_INLINE static Loaded load_tail(const Element* p, std::size_t n) {
    return load(Padded<32>(reinterpret_cast<const std::uint8_t*>(p), n * sizeof *p).bytes);
  }
  template <int kPart>
  AKIDB_INLINE static Reg part(Loaded x) {
    return _mm256_castsi256_ps(kPart == 0 ? _mm256_slli_epi32(x, 16)
                                          : _mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xFFFF0000U))));
  }
  AKIDB_INLINE static float total(const Reg* r) { return total_of_turns(r[0], r[1]); }
};

// Bytes are widened to 16 bits: vpmaddubsw would saturate.
struct YmmWords : WholeBytes {
  static constexpr std::size_t kBytes = 16;
  static constexpr int kSumsOfOne = 1;  // the chain is an addition of one cycle
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 2;
  using Reg = __m256i;
  using Sum = __m256i;

  AKIDB_INLINE static Sum zero() { return _mm256_setzero_si256(); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(YmmCodes::total(s)); }
};

struct YmmInt8 : YmmWords {
  AKIDB_INLINE static Reg load(const std::uint8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) { return load(Padded<16>(p, n).bytes); }
};

struct YmmUint8 : YmmWords {
  AKIDB_INLINE static Reg load(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) { return load(Padded<16>(p, n).bytes); }
};

template <class Byte>
struct SquaredDifferences : Byte {
  using Value = std::uint32_t;
  AKIDB_INLINE static __m256i step(__m256i sum, __m256i a, __m256i b) {
    const __m256i difference = _mm256_sub_epi16(a, b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(difference, difference));
  }
};

template <class Byte, class Total>
struct Products : Byte {
  using Value = Total;
  AKIDB_INLINE static __m256i step(__m256i sum, __m256i a, __m256i b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  }
};

}  // namespace

namespace avx2 {
constexpr Kernels kKernels =
    table<YmmCodes, Ymm>(SimdLevel::kAvx2, "avx2", floats<Ymm>(), floats<YmmHalf>(), floats<YmmBFloat>(),
                         bytes<SquaredDifferences<YmmInt8>, Products<YmmInt8, std::int32_t>>(),
                         bytes<SquaredDifferences<YmmUint8>, Products<YmmUint8, std::uint32_t>>(), bits<WordBits>());
}
}  // namespace akidb
