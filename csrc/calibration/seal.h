// A graph as sealed bytes: codes beside the links where they serve, and what a search then finds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "hnsw/graph.h"
#include "hnsw/vectors.h"
#include "quantization/codes.h"

namespace akidb::calibration {

// Room for so many bytes, aligned to 8. May be called again with another size; the last one counts.
using Allocate = std::function<std::uint8_t*(std::size_t)>;

// Writes the first `count` nodes as docs/formats/graph.md has it. Without `bits` the shortest codes are taken that cost
// no more than one hundredth of recall@10 against the vectors themselves, at two widths of the walk, and are shorter
// than these; where none does, or there are too few vectors to tell, there are no codes. Error(kInvalidInput) for codes
// of binary vectors. No insert may run meanwhile. pause() is called every few hundred milliseconds; what it throws ends
// the work.
void seal(const hnsw::Graph& graph, std::size_t count, const hnsw::Vectors& vectors,
          std::optional<quantization::CodeBits> bits, unsigned threads, const Allocate& allocate,
          const std::function<void()>& pause);

}  // namespace akidb::calibration
