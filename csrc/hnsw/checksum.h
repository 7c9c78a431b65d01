// CRC-32C (Castagnoli; RFC 3720, appendix B.4), the checksum of every format of AkiDB.
#pragma once

#include <cstddef>
#include <cstdint>

namespace akidb::hnsw {

// Of `bytes`, continuing from `crc` (0: from the start), so that crc32c(b, crc32c(a)) is that of a followed by b.
std::uint32_t crc32c(const void* bytes, std::size_t count, std::uint32_t crc = 0);

}  // namespace akidb::hnsw
