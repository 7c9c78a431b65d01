// Answering queries over a graph, whichever form it has. Vectors are named by their rows, in what is asked and in what
// is answered.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/deadline.h"
#include "hnsw/graph.h"
#include "hnsw/passing.h"
#include "hnsw/vectors.h"
#include "quantization/codes.h"

namespace akidb::hnsw {

struct Request {
  const void* queries = nullptr;  // query_count vectors of the same type as those of the graph, close together
  std::size_t query_count = 0;
  std::size_t k = 0;
  std::size_t ef = 0;                          // raised to k where it is less
  const quantization::Codes* codes = nullptr;  // of the vectors; not null: the walk compares them
  std::size_t count = 0;                       // rows that may be found: those below it
  const std::uint8_t* allowed = nullptr;       // count bytes, a row may be returned where its byte is not 0; null: all
  Removals removals;                           // of rows below `count`, which are not returned
  std::size_t removed_count = 0;               // of them
  const Node* left_out = nullptr;  // per query a row that is neither returned nor walked through; null: there is none
  unsigned threads = 1;            // 0: one per processor
  Stop stop;                       // checked every 256 hops
};

// Algorithm 5 of the paper, K-NN-SEARCH, for each query: k rows nearest first and their distances, padded with -1 and
// +inf. Where only some nodes may be returned the walk goes through the others all the same, so a filter doesn't cut
// the graph apart; what it met beyond its width leads to more of those that may, as far as it takes to meet k. Where
// comparing all of these costs less, that is done instead. With codes, the nearest of what is found by codes are
// compared again by their vectors: distances are always exact. Throws Error: kDeadlineExceeded or kCancelled as
// request.stop says, kCorruption when a link leads outside a GraphView.
template <class G>
void search(const G& graph, const Vectors& vectors, const Request& request, std::int64_t* out_rows,
            float* out_distances);

extern template void search(const Graph&, const Vectors&, const Request&, std::int64_t*, float*);
extern template void search(const GraphView&, const Vectors&, const Request&, std::int64_t*, float*);

}  // namespace akidb::hnsw
