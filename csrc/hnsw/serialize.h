// A graph as bytes, used where they lie. docs/formats/graph.md is the description with a worked example.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hnsw/graph.h"
#include "hnsw/params.h"
#include "hnsw/vectors.h"
#include "quantization/codes.h"

namespace akidb::hnsw {

constexpr std::size_t kGraphAlignment = 64;  // of sections within the bytes

// What the header says.
struct GraphInfo {
  Params params;
  Metric metric = Metric::kCosine;
  std::size_t dim = 0;
  std::size_t count = 0;
  EntryPoint entry;
  std::size_t upper_rows = 0;
  quantization::CodeBits code_bits = quantization::CodeBits::kNone;
  std::size_t bytes = 0;  // of header and sections
  std::uint32_t body_crc = 0;
};

// Bytes that the first `count` nodes of a graph take, with codes of `bits` beside the links.
std::size_t serialized_bytes(const Graph& graph, std::size_t count, std::size_t dim, quantization::CodeBits bits);
// Writes serialized_bytes() to `out`, encoding the vectors on `threads` threads (0: one per processor). No insert may
// run meanwhile.
void serialize(const Graph& graph, std::size_t count, const Vectors& vectors, quantization::CodeBits bits,
               unsigned threads, std::uint8_t* out);

// Reads the header and compares the sizes that follow from it with `size`; touches no other byte. Throws
// Error(kCorruption) for bytes that are no graph, are truncated or whose header is damaged, and Error(kInvalidInput)
// where `bytes` isn't aligned to 4.
GraphInfo read_header(const std::uint8_t* bytes, std::size_t size);
GraphView open(const std::uint8_t* bytes, const GraphInfo& info);
// The codes beside the links; only where info.code_bits is not kNone.
quantization::Codes open_codes(const std::uint8_t* bytes, const GraphInfo& info);
// Compares the checksum of everything after the header. Throws Error(kCorruption).
void check_body(const std::uint8_t* bytes, const GraphInfo& info);
// The graph as one that grows, with room for `capacity` nodes. Throws Error(kCorruption) where rows and levels don't
// fit each other.
void copy_links(const GraphView& view, Graph& graph);

}  // namespace akidb::hnsw
