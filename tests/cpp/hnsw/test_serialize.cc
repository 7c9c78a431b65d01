// Bytes of a graph that are not what was written: refused, or answered without leaving the buffer.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/checksum.h"
#include "hnsw/insert.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 8;
constexpr std::size_t kCount = 400;

// In a buffer of its exact size, so that AddressSanitizer sees a read beyond.
std::vector<std::uint8_t> graph_bytes(const Vectors& vectors) {
  Graph graph({4, 30, 2}, kCount);
  build(graph, vectors, 0, kCount, 1, {});
  std::vector<std::uint8_t> bytes(serialized_bytes(graph, kCount));
  serialize(graph, kCount, Metric::kL2, kDim, bytes.data());
  return bytes;
}

std::vector<std::uint8_t> sealed_bytes_of(const Vectors& vectors, quantization::CodeBits bits) {
  Graph graph({4, 30, 2}, kCount);
  build(graph, vectors, 0, kCount, 1, {});
  std::vector<std::uint8_t> bytes(sealed_bytes(graph, kCount, kDim, bits));
  seal(graph, locality_order(graph, kCount), vectors, bits, 1, bytes.data());
  return bytes;
}

ErrorKind refusal(const std::vector<std::uint8_t>& bytes) {
  return thrown_by<Error>([&] { read_header(bytes.data(), bytes.size()); }).kind();
}

// Filters that are walked under, gone on under, widened under and scanned under; the last leaves out what is near the
// queries.
std::vector<std::vector<std::uint8_t>> filters(const Vectors& vectors, const std::vector<float>& queries) {
  std::vector<std::vector<std::uint8_t>> out;
  for (const std::size_t every : {1U, 2U, 10U, 100U, 500U}) {
    for (const bool passes : {true, false}) {
      out.emplace_back(kCount);
      for (std::size_t row = 0; row < kCount; ++row) out.back()[row] = (row % every == 1 % every) == passes ? 1 : 0;
    }
  }
  out.emplace_back(kCount, std::uint8_t{1});
  for (std::size_t at = 0; at < queries.size(); at += kDim) {
    for (const std::int64_t row : nearest(vectors, kCount, &queries[at], kCount / 10))
      out.back()[static_cast<std::size_t>(row)] = 0;
  }
  return out;
}

// False where the search refused.
bool search_inside(const GraphView& view, const Vectors& vectors, Request request) {
  std::vector<std::int64_t> rows(request.query_count * request.k);
  std::vector<float> distances(rows.size());
  try {
    search(view, vectors, request, rows.data(), distances.data());
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kCorruption);
    return false;
  }
  for (const std::int64_t row : rows) {
    CHECK(row >= -1 && row < static_cast<std::int64_t>(kCount));
    if (row < 0) continue;
    CHECK(request.allowed == nullptr || request.allowed[row] != 0);
    CHECK(!request.removals.has(static_cast<std::size_t>(row)));
  }
  return true;
}

// Few bytes let a search come far, many reach all that it reads.
std::vector<std::uint8_t> damaged(std::vector<std::uint8_t> bytes, std::mt19937& random) {
  for (std::size_t left = 1 + random() % 40; left > 0; --left)
    bytes[128 + random() % (bytes.size() - 128)] = static_cast<std::uint8_t>(random());
  return bytes;
}

void search_damaged(const std::vector<std::uint8_t>& good, const std::vector<float>& values) {
  Vectors vectors = rows_of(values, kDim);
  const std::vector<float> queries = clustered(4, kDim, 2);
  const std::vector<std::vector<std::uint8_t>> masks = filters(vectors, queries);
  std::mt19937 random(5);
  std::vector<Removals::Time> removed_in(kCount);
  for (Removals::Time& time : removed_in) time = random() % 4 == 0 ? 1 : 0;
  Request request;
  request.queries = queries.data();
  request.query_count = 4;
  request.k = 5;
  request.count = kCount;
  std::size_t refused = 0;
  std::size_t answered = 0;
  for (int trial = 0; trial < 150; ++trial) {
    const std::vector<std::uint8_t> bytes = damaged(good, random);
    const GraphInfo info = read_header(bytes.data(), bytes.size());
    const GraphView view = open(bytes.data(), info);
    vectors.order = open_order(bytes.data(), info);
    const auto codes = open_codes(bytes.data(), info);
    request.codes = codes ? &*codes : nullptr;
    request.ef = trial % 2 == 0 ? 5 : 50;
    request.removals = {trial % 3 == 0 ? removed_in.data() : nullptr, 1};
    request.removed_count =
        trial % 3 == 0 ? static_cast<std::size_t>(std::count(removed_in.begin(), removed_in.end(), 1)) : 0;
    request.allowed = nullptr;
    (search_inside(view, vectors, request) ? answered : refused) += 1;
    for (const std::vector<std::uint8_t>& mask : masks) {
      request.allowed = mask.data();
      (search_inside(view, vectors, request) ? answered : refused) += 1;
    }
  }
  CHECK(refused > 0);
  CHECK(answered > 0);
}

}  // namespace

TEST(crc32c_of_the_rfc) {
  // RFC 3720, appendix B.4
  CHECK_EQ(0x8A9136AAU, crc32c(std::vector<std::uint8_t>(32, 0).data(), 32));
  CHECK_EQ(0x62A8AB43U, crc32c(std::vector<std::uint8_t>(32, 0xFF).data(), 32));
  CHECK_EQ(0xE3069283U, crc32c("123456789", 9));
  CHECK_EQ(0xE3069283U, crc32c("6789", 4, crc32c("12345", 5)));
}

TEST(every_truncation_is_refused) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  const std::vector<std::uint8_t> bytes = graph_bytes(rows_of(values, kDim));
  for (std::size_t size = 0; size < bytes.size(); size += size < 256 ? 1 : 997) {
    CHECK(refusal({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}) == ErrorKind::kCorruption);
  }
  read_header(bytes.data(), bytes.size());
}

TEST(every_changed_header_byte_is_refused) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  std::vector<std::uint8_t> bytes = graph_bytes(rows_of(values, kDim));
  for (std::size_t i = 0; i < 128; ++i) {
    bytes[i] ^= 0x10;
    CHECK(refusal(bytes) == ErrorKind::kCorruption);
    bytes[i] ^= 0x10;
  }
}

TEST(a_changed_body_fails_its_checksum) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  std::vector<std::uint8_t> bytes = graph_bytes(rows_of(values, kDim));
  const GraphInfo info = read_header(bytes.data(), bytes.size());
  check_body(bytes.data(), info);
  bytes[bytes.size() / 2] ^= 1;
  CHECK(thrown_by<Error>([&] { check_body(bytes.data(), info); }).kind() == ErrorKind::kCorruption);
}

TEST(searching_a_damaged_body_answers_or_refuses_but_stays_inside) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  const Vectors vectors = rows_of(values, kDim);
  search_damaged(graph_bytes(vectors), values);
  for (const auto bits : {quantization::CodeBits::kNone, quantization::CodeBits::kFour})
    search_damaged(sealed_bytes_of(vectors, bits), values);
}

TEST(a_damaged_order_is_refused) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  std::vector<std::uint8_t> bytes = sealed_bytes_of(rows_of(values, kDim), quantization::CodeBits::kNone);
  const GraphInfo info = read_header(bytes.data(), bytes.size());
  const Order order = open_order(bytes.data(), info);
  order.check();
  auto* rows = const_cast<Node*>(order.rows);
  std::swap(rows[3], rows[7]);
  CHECK(thrown_by<Error>([&] { order.check(); }).kind() == ErrorKind::kCorruption);
  rows[3] = kCount;
  CHECK(thrown_by<Error>([&] { order.check(); }).kind() == ErrorKind::kCorruption);
}

TEST(validate_names_what_is_wrong) {
  const std::vector<float> values = clustered(kCount, kDim, 1);
  std::vector<std::uint8_t> bytes = graph_bytes(rows_of(values, kDim));
  const GraphInfo info = read_header(bytes.data(), bytes.size());
  const GraphView view = open(bytes.data(), info);
  validate(view, kCount);
  Node links[2];
  std::memcpy(links, bytes.data() + 128, sizeof links);  // node 0's first links
  const auto with_first_link = [&](Node link) {
    std::memcpy(bytes.data() + 128, &link, sizeof link);
    return std::string(thrown_by<Error>([&] { validate(view, kCount); }).what());
  };
  CHECK(with_first_link(0).find("link to itself") != std::string::npos);
  CHECK(with_first_link(kCount).find("does not exist") != std::string::npos);
  CHECK(with_first_link(links[1]).find("same link twice") != std::string::npos);
  CHECK(with_first_link(kNoNode).find("gap") != std::string::npos);
}
