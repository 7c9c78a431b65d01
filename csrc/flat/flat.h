// Exact search: the truth other indexes are measured by, and the path for few or heavily filtered rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/deadline.h"
#include "distance/distance.h"

namespace akidb::flat {

// The vectors to search, owned by the caller and not changed meanwhile.
struct Rows {
  const void* vectors = nullptr;         // count vectors of `type`
  const float* inverse_norms = nullptr;  // count; used by kCosine only; null: computed while scanning
  std::size_t count = 0;
  std::size_t dim = 0;
  Metric metric = Metric::kCosine;
  ElementType type = ElementType::kFloat32;
  std::size_t stride_bytes = 0;  // from one row to the next; 0: the vectors lie close
};

struct Request {
  const void* queries = nullptr;  // query_count vectors of the rows' type, close together
  std::size_t query_count = 0;
  std::size_t k = 0;
  const std::uint8_t* allowed = nullptr;  // count bytes, a row is searched where its byte is not 0; null: all rows
  unsigned threads = 1;                   // 0: one per processor
  Stop stop = {};                         // checked per block of rows
};

// For each query the k nearest rows, nearest first, equal distances by smaller row. out_rows
// and out_distances hold query_count x k; where fewer than k rows are allowed, row -1 and
// distance +inf pad. A distance that is not a number (overflow) counts as +inf. Throws Error:
// kDeadlineExceeded or kCancelled as request.stop says; the output is then unspecified.
void search(const Rows& rows, const Request& request, std::int64_t* out_rows, float* out_distances);

// out[i] = inverse_norm(row i), count values.
void inverse_norms(ElementType type, const void* vectors, std::size_t count, std::size_t dim, unsigned threads,
                   float* out);

}  // namespace akidb::flat
