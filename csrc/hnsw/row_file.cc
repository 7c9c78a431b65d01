#include "hnsw/row_file.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "common/error.h"

namespace akidb::hnsw {

void RowFile::read(std::size_t row, std::uint8_t* out) const {
  const std::uint64_t first = offset + static_cast<std::uint64_t>(row) * row_bytes;
  for (std::size_t done = 0; done < row_bytes;) {
    const ssize_t got = pread(descriptor, out + done, row_bytes - done, static_cast<off_t>(first + done));
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (got == 0) {
      throw Error(ErrorKind::kCorruption, "the file ends within vector " + std::to_string(row));
    } else if (errno != EINTR) {
      throw Error(ErrorKind::kCorruption,
                  "vector " + std::to_string(row) + " cannot be read: " + std::generic_category().message(errno));
    }
  }
}

}  // namespace akidb::hnsw
