// A graph as bytes, used where they lie. docs/formats/graph.md is the description with a worked example.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "hnsw/calibration.h"
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
  bool is_sealed = false;
  quantization::CodeBits code_bits = quantization::CodeBits::kNone;
  LinkPacking packing;
  bool has_fine_codes = false;
  std::size_t bytes = 0;  // of header and sections
  std::uint32_t body_crc = 0;
};

// Bytes that the first `count` nodes of a graph take: the links alone, or sealed, with codes of `bits` and room for a
// calibration.
std::size_t serialized_bytes(const Graph& graph, std::size_t count);
std::size_t sealed_bytes(const Graph& graph, std::size_t count, std::size_t dim, quantization::CodeBits bits);
// Write that many bytes to `out`. No insert may run meanwhile. seal numbers the nodes anew: node i is what `order` has
// at i, a permutation of [0, count). It encodes on `threads` threads (0: one per processor) and leaves the calibration
// unmeasured.
void serialize(const Graph& graph, std::size_t count, Metric metric, std::size_t dim, std::uint8_t* out);
void seal(const Graph& graph, std::span<const Node> order, const Vectors& vectors, quantization::CodeBits bits,
          unsigned threads, std::uint8_t* out);
// Puts a calibration into sealed bytes.
void set_calibration(std::uint8_t* bytes, const Calibration& calibration);

// Reads the header and compares the sizes that follow from it with `size`; touches no other byte. Throws
// Error(kCorruption) for bytes that are no graph, are truncated or whose header is damaged, and Error(kInvalidInput)
// where `bytes` isn't aligned to 4.
GraphInfo read_header(const std::uint8_t* bytes, std::size_t size);
GraphView open(const std::uint8_t* bytes, const GraphInfo& info);
Order open_order(const std::uint8_t* bytes, const GraphInfo& info);
// The codes beside the links, if there are any.
std::optional<quantization::Codes> open_codes(const std::uint8_t* bytes, const GraphInfo& info);
// What was measured when the graph was sealed; of no queries where nothing was.
Calibration read_calibration(const std::uint8_t* bytes, const GraphInfo& info);
// Compares the checksum of everything after the header. Throws Error(kCorruption).
void check_body(const std::uint8_t* bytes, const GraphInfo& info);
// The links to a graph that grows, of a node to that of its row, where levels must be the same. Throws
// Error(kCorruption) where rows and levels don't fit each other, or links and order lead outside.
void copy_links(const GraphView& view, const Order& order, Graph& graph);

}  // namespace akidb::hnsw
