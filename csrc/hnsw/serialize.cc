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
// codes, and a calibration. Version 3 packs the links of version 2, and has fine codes beside codes of 4 bits. Version
// 2 is read, and written no longer.
constexpr std::uint32_t kPlainVersion = 1;
constexpr std::uint32_t kUnpackedVersion = 2;
constexpr std::uint32_t kSealedVersion = 3;

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
  std::uint32_t code_bits;  // 0 in version 1
  std::uint32_t link_bits;  // 0 but in version 3
  std::uint8_t reserved[40];
  std::uint32_t body_crc;
  std::uint32_t header_crc;  // of the bytes before it
};
static_assert(sizeof(Header) == 128 && sizeof(Header) % kGraphAlignment == 0);

// Queries and a word of zeros, then recall and deviation per k and ef; zeros fill it up.
constexpr std::size_t kCalibrationBytes = 256;
constexpr std::size_t kCurvesAt = 8;
static_assert(kCurvesAt + 2 * sizeof(Calibration::recall) <= kCalibrationBytes);

// What the sections' sizes follow from.
struct Form {
  std::size_t count;
  std::size_t upper_rows;
  unsigned m;
  bool is_sealed;
  CodeShape shape;
  LinkPacking packing;
  bool has_fine_codes;
};

Form form_of(const GraphInfo& info) {
  return {info.count,   info.upper_rows,    info.params.m, info.is_sealed, {info.dim, info.code_bits, info.metric},
          info.packing, info.has_fine_codes};
}

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
  std::size_t fine_scales;
  std::size_t fine_codes;
  std::size_t calibration;
  std::size_t end;

  explicit Layout(const Form& form) {
    const auto& [count, upper_rows, m, is_sealed, shape, packing, has_fine_codes] = form;
    levels = base + padded(count * packing.row_bytes(2 * m));
    upper_starts = levels + padded(count);
    upper = upper_starts + padded(count * sizeof(std::uint32_t));
    rows = upper + padded(upper_rows * packing.row_bytes(m));
    nodes = rows + (is_sealed ? padded(count * sizeof(Node)) : 0);
    centre = nodes + (is_sealed ? padded(count * sizeof(Node)) : 0);
    const bool has_codes = shape.bits != CodeBits::kNone;
    factors = centre + (has_codes ? padded(shape.dim * sizeof(float)) : 0);
    codes = factors + (has_codes ? padded(count * sizeof(quantization::Factors)) : 0);
    fine_scales = codes + padded(count * shape.row_bytes());
    fine_codes = fine_scales + (has_fine_codes ? padded(count * sizeof(float)) : 0);
    calibration = fine_codes + (has_fine_codes ? padded(count * shape.row_bytes()) : 0);
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

Form form_of(const Graph& graph, std::size_t count, const CodeShape& shape, bool is_sealed) {
  return {count,
          upper_rows_of(graph, count),
          graph.m(),
          is_sealed,
          shape,
          is_sealed ? LinkPacking::of(count) : LinkPacking{},
          is_sealed && shape.bits == CodeBits::kFour};
}

// Everything but what sealing adds. The checksums are still to be set.
Header write_links(const Graph& graph, const Numbering& numbering, const Form& form, std::uint8_t* out) {
  const Layout layout(form);
  const LinkPacking packing = form.packing;
  std::memset(out, 0, layout.end);
  const std::size_t count = numbering.count();
  std::uint8_t* base = out + layout.base;
  std::uint8_t* upper = out + layout.upper;
  auto* upper_starts = reinterpret_cast<std::uint32_t*>(out + layout.upper_starts);
  std::uint32_t upper_rows = 0;
  const auto write_row = [&](Node row, unsigned level, std::uint8_t* to) {
    const Node* links = graph.row(row, level);
    for (unsigned i = 0; i < graph.degree(level); ++i) packing.store(to, i, numbering(links[i]));
    return to + packing.row_bytes(graph.degree(level));
  };
  for (Node node = 0; node < count; ++node) {
    const Node row = numbering.rows()[node];
    const unsigned level = graph.level(row);
    out[layout.levels + node] = static_cast<std::uint8_t>(level);
    upper_starts[node] = upper_rows;
    base = write_row(row, 0, base);
    for (unsigned l = 1; l <= level; ++l, ++upper_rows) upper = write_row(row, l, upper);
  }
  const EntryPoint entry = graph.entry();
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kPlainVersion;
  header.metric = static_cast<std::uint32_t>(form.shape.metric);
  header.dim = form.shape.dim;
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
  return Layout(form_of(graph, count, {}, false)).end;
}

std::size_t sealed_bytes(const Graph& graph, std::size_t count, std::size_t dim, CodeBits bits) {
  return Layout(form_of(graph, count, {dim, bits}, true)).end;
}

void serialize(const Graph& graph, std::size_t count, Metric metric, std::size_t dim, std::uint8_t* out) {
  std::vector<Node> order(count);
  std::iota(order.begin(), order.end(), Node{0});
  const Form form = form_of(graph, count, {dim, CodeBits::kNone, metric}, false);
  Header header = write_links(graph, Numbering(order), form, out);
  finish(out, header);
}

void seal(const Graph& graph, std::span<const Node> order, const Vectors& vectors, CodeBits bits, unsigned threads,
          std::uint8_t* out) {
  const std::size_t count = order.size();
  const CodeShape shape{vectors.dim, bits, vectors.metric};
  const Form form = form_of(graph, count, shape, true);
  const Layout layout(form);
  const Numbering numbering(order);
  Header header = write_links(graph, numbering, form, out);
  std::ranges::copy(numbering.rows(), reinterpret_cast<Node*>(out + layout.rows));
  std::ranges::copy(numbering.nodes(), reinterpret_cast<Node*>(out + layout.nodes));
  header.version = kSealedVersion;
  header.code_bits = static_cast<std::uint32_t>(bits);
  header.link_bits = form.packing.bits;
  if (bits != CodeBits::kNone) {
    auto* centre = reinterpret_cast<float*>(out + layout.centre);
    quantization::find_centre(shape, {vectors.type, vectors.data, vectors.stride_bytes}, count, centre);
    quantization::FineCodes fine;
    if (form.has_fine_codes) fine = {reinterpret_cast<float*>(out + layout.fine_scales), out + layout.fine_codes};
    quantization::encode(shape, centre, {vectors.type, vectors.data, vectors.stride_bytes, order.data()}, count,
                         threads, reinterpret_cast<quantization::Factors*>(out + layout.factors), out + layout.codes,
                         fine);
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
  if (header.version < kPlainVersion || header.version > kSealedVersion)
    throw_corrupt("has format version " + std::to_string(header.version) + ", this build reads " +
                  std::to_string(kPlainVersion) + " to " + std::to_string(kSealedVersion));
  if (header.header_crc != crc32c(&header, offsetof(Header, header_crc)))
    throw_corrupt("has a damaged header (CRC32C differs)");
  // From here on a contradiction was written by a program, not by a failing disk; it must not lead outside the bytes
  // all the same.
  GraphInfo info;
  info.params = {header.m, header.ef_construction, header.seed};
  const auto bits = static_cast<CodeBits>(header.code_bits);
  const bool has_codes = bits == CodeBits::kFour || bits == CodeBits::kEight;
  const bool is_packed = header.version == kSealedVersion;
  info.is_sealed = is_packed || header.version == kUnpackedVersion;
  if (is_packed) info.packing = LinkPacking::of(header.count);
  const bool plausible = (has_codes ? info.is_sealed : bits == CodeBits::kNone) &&
                         header.link_bits == (is_packed ? info.packing.bits : 0) &&
                         header.metric <= static_cast<std::uint32_t>(Metric::kInnerProduct) && header.dim >= 1 &&
                         header.dim <= kDimMax && header.count <= kNodesMax &&
                         header.upper_rows <= header.count * kLevelMax && header.entry_level <= kLevelMax &&
                         (header.count == 0 ? header.entry_node == kNoNode : header.entry_node < header.count);
  if (!plausible || !info.params.in_range()) throw_corrupt("has impossible values in its header");
  info.metric = static_cast<Metric>(header.metric);
  info.dim = header.dim;
  info.count = header.count;
  info.entry = {header.entry_node, header.entry_level};
  info.upper_rows = header.upper_rows;
  info.code_bits = bits;
  info.has_fine_codes = is_packed && bits == CodeBits::kFour;
  info.bytes = header.bytes;
  info.body_crc = header.body_crc;
  if (Layout(form_of(info)).end != header.bytes || header.bytes > size) {
    throw_corrupt("should have " + std::to_string(header.bytes) + " bytes, there are " + std::to_string(size));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(Node) != 0)
    throw_invalid("the graph's bytes begin at an address that isn't a multiple of 4");
  return info;
}

GraphView open(const std::uint8_t* bytes, const GraphInfo& info) {
  const Layout layout(form_of(info));
  return {info.params.m,
          info.count,
          info.entry,
          info.packing,
          bytes + layout.base,
          bytes + layout.levels,
          reinterpret_cast<const std::uint32_t*>(bytes + layout.upper_starts),
          bytes + layout.upper,
          info.upper_rows};
}

Order open_order(const std::uint8_t* bytes, const GraphInfo& info) {
  if (!info.is_sealed) return {};
  const Layout layout(form_of(info));
  return {reinterpret_cast<const Node*>(bytes + layout.rows), reinterpret_cast<const Node*>(bytes + layout.nodes),
          info.count};
}

std::optional<quantization::Codes> open_codes(const std::uint8_t* bytes, const GraphInfo& info) {
  if (info.code_bits == CodeBits::kNone) return std::nullopt;
  const Form form = form_of(info);
  const Layout layout(form);
  quantization::Codes codes{form.shape, reinterpret_cast<const float*>(bytes + layout.centre),
                            reinterpret_cast<const quantization::Factors*>(bytes + layout.factors),
                            bytes + layout.codes};
  if (form.has_fine_codes) {
    codes.fine_scales = reinterpret_cast<const float*>(bytes + layout.fine_scales);
    codes.fine_rows = bytes + layout.fine_codes;
  }
  return codes;
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
      const GraphView::Row row = view.row(node, level);
      if (row == nullptr)
        throw_corrupt("has no links for node " + std::to_string(node) + " on level " + std::to_string(level));
      Node* to = graph.row(target, level);
      for (unsigned i = 0; i < graph.degree(level); ++i) {
        const Node link = view.link(row, i);
        to[i] = link == kNoNode ? kNoNode : order.row_of(link);
      }
    }
  }
  const EntryPoint entry = view.entry();
  graph.set_entry({entry.node == kNoNode ? kNoNode : order.row_of(entry.node), entry.level});
}

}  // namespace akidb::hnsw
