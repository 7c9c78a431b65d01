// Rows of vectors in a file. Where a search wants only a few of many, reading them leaves the others out of the
// process's memory: touching a mapped file makes 16 pages resident at a time, of which one row is wanted, and they
// stay. A file that is cut short or a disk that fails is an error here, where a mapping ends the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace akidb::hnsw {

// Row i begins at byte offset + i * row_bytes of `descriptor`, which stays the caller's.
struct RowFile {
  int descriptor = -1;  // there is no file
  std::uint64_t offset = 0;
  std::size_t row_bytes = 0;

  explicit operator bool() const { return descriptor >= 0; }
  // Copies a row to `out` (row_bytes). Any number of threads. Throws Error(kCorruption) naming what is wrong.
  void read(std::size_t row, std::uint8_t* out) const;
};

}  // namespace akidb::hnsw
