// A sealed or plain graph from elsewhere, searched where it lies: refused as corrupt, or answered inside its bytes.
#include <algorithm>
#include <cstdlib>

#include "common/error.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"
#include "input.h"

using namespace akidb;
using namespace akidb::fuzz;

namespace {

void search(Input& parameters, const hnsw::GraphView& view, const hnsw::Vectors& vectors,
            const quantization::Codes* codes) {
  const std::size_t count = view.count();
  hnsw::Request request;
  const auto kinds = parameters.take<std::uint8_t>();
  request.k = 1 + parameters.take<std::uint8_t>() % 20;
  request.ef = parameters.take<std::uint8_t>();
  request.codes = (kinds & 1) != 0 ? codes : nullptr;
  request.count = count;
  // One row in so many passes, or all but those; one in so many is removed.
  const auto mask_step = 1U + parameters.take<std::uint8_t>();
  const auto removed_step = 1U + parameters.take<std::uint8_t>();
  std::vector<std::uint8_t> allowed(count);
  std::vector<hnsw::Removals::Time> removed_in(count);
  for (std::size_t i = 0; i < count; ++i) {
    allowed[i] = static_cast<std::uint8_t>((i % mask_step == 0) == ((kinds & 4) == 0));
    removed_in[i] = i % removed_step == 0 ? 1 : 0;
  }
  if ((kinds & 2) != 0) request.allowed = allowed.data();
  if ((kinds & 8) != 0) {
    request.removals = {removed_in.data(), 1};
    request.removed_count = (count + removed_step - 1) / removed_step;
  }
  const Data queries(2, vectors.dim);
  request.queries = queries.values.data();
  request.query_count = 2;
  std::vector<std::int64_t> rows(2 * request.k);
  std::vector<float> distances(2 * request.k);
  hnsw::search(view, vectors, request, rows.data(), distances.data());
  for (const std::int64_t row : rows) {
    if (row < -1 || row >= static_cast<std::int64_t>(count)) std::abort();
    if (row < 0) continue;
    if (request.allowed != nullptr && allowed[static_cast<std::size_t>(row)] == 0) std::abort();
    if (request.removals.has(static_cast<std::size_t>(row))) std::abort();
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t size_max,
                                               unsigned seed) {
  return mutate_graph(data, size, size_max, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kParameterBytes) return 0;
  Input parameters(data, kParameterBytes);
  const AlignedBuffer<std::uint8_t> bytes = Input(data + kParameterBytes, size - kParameterBytes).rest();
  try {
    const hnsw::GraphInfo info = hnsw::read_header(bytes.data(), bytes.size());
    if (!is_small(info.count, info.dim)) return 0;
    const hnsw::GraphView view = hnsw::open(bytes.data(), info);
    const auto codes = hnsw::open_codes(bytes.data(), info);
    const hnsw::Calibration calibration = hnsw::read_calibration(bytes.data(), info);
    if (calibration.queries > 0) calibration.ef_for(10, 0.95);
    const Data stored(info.count, info.dim);
    hnsw::Vectors vectors = stored.vectors(info.dim, info.metric);
    vectors.order = hnsw::open_order(bytes.data(), info);
    search(parameters, view, vectors, codes ? &*codes : nullptr);
    hnsw::check_body(bytes.data(), info);
    hnsw::validate(view, info.count);
    vectors.order.check();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorruption) throw;
  }
  return 0;
}
