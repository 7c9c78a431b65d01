#include "hnsw/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace akidb::hnsw {

namespace {

static_assert(std::endian::native == std::endian::little);

// Tables for eight bytes at a time: about 2 GB/s everywhere. The CRC instructions of both architectures are faster but
// would need a unit of their own per instruction set, for work that is bound by the disk it accompanies.
constexpr std::array<std::array<std::uint32_t, 256>, 8> make_tables() {
  constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // reflected
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
    tables[0][byte] = crc;
  }
  for (std::size_t t = 1; t < 8; ++t) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t crc = tables[t - 1][byte];
      tables[t][byte] = (crc >> 8) ^ tables[0][crc & 0xFFU];
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

}  // namespace

std::uint32_t crc32c(const void* bytes, std::size_t count, std::uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(bytes);
  crc = ~crc;
  for (; count >= 8; count -= 8, p += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, 8);
    word ^= crc;
    crc = 0;
    for (unsigned t = 0; t < 8; ++t) crc ^= kTables[7 - t][(word >> (8 * t)) & 0xFFU];
  }
  for (; count > 0; --count, ++p) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xFFU];
  return ~crc;
}

}  // namespace akidb::hnsw
