#include "hnsw/serialize.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "hnsw/checksum.h"

namespace akidb::hnsw {

namespace {

constexpr char kMagic[8] = {'A', 'k', 'i', 'G', 'r', 'a', 'p', 'h'};
// Version 2, sealed, is version 1 with sections more: rows and nodes of its order, centre, factors and rows of the
// codes, and a calibration.
constexpr std::uint32_t kPlainVersion = 1;
constexpr std::uint32_t kSealedVersion = 2;

using quantization::CodeBits;
using quantization::CodeShape;

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t metric;
  std::uint64_t dim;
  std::uint64_t count;
  std::uint64_t upper_rows;
  std::uint64_t seed;
  std::uint64_t bytes;
  std::uint32_t m;
  std::uint32_t ef_construction;
  std::uint32_t entry_node;
  std::uint32_t entry_level;
  std::uint32_t code_bits;  // 0 but in version 2
  std::uint8_t reserved[44];
  std::uint32_t body_crc;
  std::uint32_t header_crc;  // of the bytes before it
};
static_assert(sizeof(Header) == 128 && sizeof(Header) % kGraphAlignment == 0);

// Queries and a word of zeros, then recall and deviation per k and ef; zeros fill it up.
constexpr std::size_t kCalibrationBytes = 256;
constexpr std::size_t kCurvesAt = 8;
static_assert(kCurvesAt + 2 * sizeof(Calibration::recall) <= kCalibrationBytes);

// Where the sections lie.
struct Layout {
  std::size_t base = sizeof(Header);
  std::size_t levels;
  std::size_t upper_starts;
  std::size_t upper;
  std::size_t rows;
  std::size_t nodes;
  std::size_t centre;
  std::size_t factors;
  std::size_t codes;
  std::size_t calibration;
  std::size_t end;

  Layout(std::size_t count, std::size_t upper_rows, unsigned m, bool is_sealed, const CodeShape& shape) {
    levels = base + padded(count * 2 * m * sizeof(Node));
    upper_starts = levels + padded(count);
    upper = upper_starts + padded(count * sizeof(std::uint32_t));
    rows = upper + padded(upper_rows * m * sizeof(Node));
    nodes = rows + (is_sealed ? padded(count * sizeof(Node)) : 0);
    centre = nodes + (is_sealed ? padded(count * sizeof(Node)) : 0);
    const bool has_codes = shape.bits != CodeBits::kNone;
    factors = centre + (has_codes ? padded(shape.dim * sizeof(float)) : 0);
    codes = factors + (has_codes ? padded(count * sizeof(quantization::Factors)) : 0);
    calibration = codes + padded(count * shape.row_bytes());
    end = calibration + (is_sealed ? kCalibrationBytes : 0);
  }
  static std::size_t padded(std::size_t bytes) {
    return (bytes + kGraphAlignment - 1) / kGraphAlignment * kGraphAlignment;
  }
};

std::size_t upper_rows_of(const Graph& graph, std::size_t count) {
  std::size_t rows = 0;
  for (const std::uint8_t level : graph.levels(count)) rows += level;
  return rows;
}

[[noreturn]] void throw_corrupt(const std::string& what) { throw Error(ErrorKind::kCorruption, "the graph " + what); }

void finish(std::uint8_t* bytes, Header& header) {
  header.body_crc = crc32c(bytes + sizeof header, header.bytes - sizeof header);
  header.header_crc = crc32c(&header, offsetof(Header, header_crc));
  std::memcpy(bytes, &header, sizeof header);
}

// Nodes as the bytes number them.
class Numbering {
 public:
  explicit Numbering(std::span<const Node> order) : rows_(order), nodes_(order.size()) {
    for (Node node = 0; node < order.size(); ++node) nodes_[order[node]] = node;
  }

  std::size_t count() const { return rows_.size(); }
  std::span<const Node> rows() const { return rows_; }
  std::span<const Node> nodes() const { return nodes_; }
  Node operator()(Node row) const { return row == kNoNode ? kNoNode : nodes_[row]; }

 private:
  std::span<const Node> rows_;  // the graph's node of each
  std::vector<Node> nodes_;
};

// Everything but what sealing adds. The checksums are still to be set.
Header write_links(const Graph& graph, const Numbering& numbering, const CodeShape& shape, const Layout& layout,
                   std::uint8_t* out) {
  std::memset(out, 0, layout.end);
  const std::size_t count = numbering.count();
  auto* base = reinterpret_cast<Node*>(out + layout.base);
  auto* upper_starts = reinterpret_cast<std::uint32_t*>(out + layout.upper_starts);
  auto* upper = reinterpret_cast<Node*>(out + layout.upper);
  std::uint32_t upper_rows = 0;
  for (Node node = 0; node < count; ++node) {
    const Node row = numbering.rows()[node];
    const unsigned level = graph.level(row);
    out[layout.levels + node] = static_cast<std::uint8_t>(level);
    upper_starts[node] = upper_rows;
    std::transform(graph.base_row(row), graph.base_row(row) + graph.degree(0), base + node * graph.degree(0),
                   numbering);
    for (unsigned l = 1; l <= level; ++l, ++upper_rows) {
      const Node* links = graph.upper_row(row, l);
      std::transform(links, links + graph.m(), upper + std::size_t{upper_rows} * graph.m(), numbering);
    }
  }
  const EntryPoint entry = graph.entry();
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kPlainVersion;
  header.metric = static_cast<std::uint32_t>(shape.metric);
  header.dim = shape.dim;
  header.count = count;
  header.upper_rows = upper_rows;
  header.seed = graph.params().seed;
  header.bytes = layout.end;
  header.m = graph.m();
  header.ef_construction = graph.params().ef_construction;
  header.entry_node = numbering(entry.node);
  header.entry_level = entry.level;
  return header;
}

}  // namespace

std::size_t serialized_bytes(const Graph& graph, std::size_t count) {
  return Layout(count, upper_rows_of(graph, count), graph.m(), false, {}).end;
}

std::size_t sealed_bytes(const Graph& graph, std::size_t count, std::size_t dim, CodeBits bits) {
  return Layout(count, upper_rows_of(graph, count), graph.m(), true, {dim, bits}).end;
}

void serialize(const Graph& graph, std::size_t count, Metric metric, std::size_t dim, std::uint8_t* out) {
  const Layout layout(count, upper_rows_of(graph, count), graph.m(), false, {});
  std::vector<Node> order(count);
  std::iota(order.begin(), order.end(), Node{0});
  Header header = write_links(graph, Numbering(order), {dim, CodeBits::kNone, metric}, layout, out);
  finish(out, header);
}

void seal(const Graph& graph, std::span<const Node> order, const Vectors& vectors, CodeBits bits, unsigned threads,
          std::uint8_t* out) {
  const std::size_t count = order.size();
  const CodeShape shape{vectors.dim, bits, vectors.metric};
  const Layout layout(count, upper_rows_of(graph, count), graph.m(), true, shape);
  const Numbering numbering(order);
  Header header = write_links(graph, numbering, shape, layout, out);
  std::ranges::copy(numbering.rows(), reinterpret_cast<Node*>(out + layout.rows));
  std::ranges::copy(numbering.nodes(), reinterpret_cast<Node*>(out + layout.nodes));
  header.version = kSealedVersion;
  header.code_bits = static_cast<std::uint32_t>(bits);
  if (bits != CodeBits::kNone) {
    auto* centre = reinterpret_cast<float*>(out + layout.centre);
    quantization::find_centre(shape, {vectors.type, vectors.data, vectors.stride_bytes}, count, centre);
    quantization::encode(shape, centre, {vectors.type, vectors.data, vectors.stride_bytes, order.data()}, count,
                         threads, reinterpret_cast<quantization::Factors*>(out + layout.factors), out + layout.codes);
  }
  finish(out, header);
}

void set_calibration(std::uint8_t* bytes, const Calibration& calibration) {
  Header header;
  std::memcpy(&header, bytes, sizeof header);
  std::uint8_t* out = bytes + header.bytes - kCalibrationBytes;
  std::memcpy(out, &calibration.queries, sizeof calibration.queries);
  std::memcpy(out + kCurvesAt, &calibration.recall, sizeof calibration.recall);
  std::memcpy(out + kCurvesAt + sizeof calibration.recall, &calibration.deviation, sizeof calibration.deviation);
  finish(bytes, header);
}

GraphInfo read_header(const std::uint8_t* bytes, std::size_t size) {
  Header header;
  if (size < sizeof header) {
    throw_corrupt("has " + std::to_string(size) + " bytes, its header alone has " + std::to_string(sizeof header));
  }
  std::memcpy(&header, bytes, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) throw_corrupt("does not begin with \"AkiGraph\"");
  if (header.version != kPlainVersion && header.version != kSealedVersion)
    throw_corrupt("has format version " + std::to_string(header.version) + ", this build reads " +
                  std::to_string(kPlainVersion) + " and " + std::to_string(kSealedVersion));
  if (header.header_crc != crc32c(&header, offsetof(Header, header_crc)))
    throw_corrupt("has a damaged header (CRC32C differs)");
  // From here on a contradiction was written by a program, not by a failing disk; it must not lead outside the bytes
  // all the same.
  GraphInfo info;
  info.params = {header.m, header.ef_construction, header.seed};
  const auto bits = static_cast<CodeBits>(header.code_bits);
  const bool has_codes = bits == CodeBits::kFour || bits == CodeBits::kEight;
  const bool is_sealed = header.version == kSealedVersion;
  const bool plausible = (has_codes ? is_sealed : bits == CodeBits::kNone) &&
                         header.metric <= static_cast<std::uint32_t>(Metric::kInnerProduct) && header.dim >= 1 &&
                         header.dim <= kDimMax && header.count <= kNodesMax &&
                         header.upper_rows <= header.count * kLevelMax && header.entry_level <= kLevelMax &&
                         (header.count == 0 ? header.entry_node == kNoNode : header.entry_node < header.count);
  if (!plausible || !info.params.in_range()) throw_corrupt("has impossible values in its header");
  if (Layout(header.count, header.upper_rows, header.m, is_sealed, {header.dim, bits}).end != header.bytes ||
      header.bytes > size) {
    throw_corrupt("should have " + std::to_string(header.bytes) + " bytes, there are " + std::to_string(size));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(Node) != 0)
    throw_invalid("the graph's bytes begin at an address that isn't a multiple of 4");
  info.metric = static_cast<Metric>(header.metric);
  info.dim = header.dim;
  info.count = header.count;
  info.entry = {header.entry_node, header.entry_level};
  info.upper_rows = header.upper_rows;
  info.is_sealed = is_sealed;
  info.code_bits = bits;
  info.bytes = header.bytes;
  info.body_crc = header.body_crc;
  return info;
}

GraphView open(const std::uint8_t* bytes, const GraphInfo& info) {
  const Layout layout(info.count, info.upper_rows, info.params.m, info.is_sealed, {info.dim, info.code_bits});
  return {info.params.m,
          info.count,
          info.entry,
          reinterpret_cast<const Node*>(bytes + layout.base),
          bytes + layout.levels,
          reinterpret_cast<const std::uint32_t*>(bytes + layout.upper_starts),
          reinterpret_cast<const Node*>(bytes + layout.upper),
          info.upper_rows};
}

Order open_order(const std::uint8_t* bytes, const GraphInfo& info) {
  if (!info.is_sealed) return {};
  const Layout layout(info.count, info.upper_rows, info.params.m, true, {info.dim, info.code_bits});
  return {reinterpret_cast<const Node*>(bytes + layout.rows), reinterpret_cast<const Node*>(bytes + layout.nodes),
          info.count};
}

std::optional<quantization::Codes> open_codes(const std::uint8_t* bytes, const GraphInfo& info) {
  if (info.code_bits == CodeBits::kNone) return std::nullopt;
  const CodeShape shape{info.dim, info.code_bits, info.metric};
  const Layout layout(info.count, info.upper_rows, info.params.m, info.is_sealed, shape);
  return quantization::Codes{shape, reinterpret_cast<const float*>(bytes + layout.centre),
                             reinterpret_cast<const quantization::Factors*>(bytes + layout.factors),
                             bytes + layout.codes};
}

Calibration read_calibration(const std::uint8_t* bytes, const GraphInfo& info) {
  Calibration calibration;
  if (!info.is_sealed) return calibration;
  const std::uint8_t* in = bytes + info.bytes - kCalibrationBytes;
  std::memcpy(&calibration.queries, in, sizeof calibration.queries);
  std::memcpy(&calibration.recall, in + kCurvesAt, sizeof calibration.recall);
  std::memcpy(&calibration.deviation, in + kCurvesAt + sizeof calibration.recall, sizeof calibration.deviation);
  return calibration;
}

void check_body(const std::uint8_t* bytes, const GraphInfo& info) {
  if (crc32c(bytes + sizeof(Header), info.bytes - sizeof(Header)) != info.body_crc)
    throw_corrupt("is damaged (CRC32C differs)");
}

void copy_links(const GraphView& view, const Order& order, Graph& graph) {
  for (Node node = 0; node < view.count(); ++node) {
    const Node target = order.row_of(node);
    for (unsigned level = 0; level <= graph.level(target); ++level) {
      const Node* row = view.row(node, level);
      if (row == nullptr)
        throw_corrupt("has no links for node " + std::to_string(node) + " on level " + std::to_string(level));
      std::transform(row, row + graph.degree(level), graph.row(target, level),
                     [&order](Node link) { return link == kNoNode ? kNoNode : order.row_of(link); });
    }
  }
  const EntryPoint entry = view.entry();
  graph.set_entry({entry.node == kNoNode ? kNoNode : order.row_of(entry.node), entry.level});
}

}  // namespace akidb::hnsw
