// A graph from elsewhere as the larger and as the smaller part of a merge: refused as corrupt, or a graph that holds.
#include <cstdlib>

#include "common/error.h"
#include "hnsw/merge.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"
#include "input.h"

using namespace akidb;
using namespace akidb::fuzz;

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
    const hnsw::Order order = hnsw::open_order(bytes.data(), info);
    order.check();  // who merges does so first
    const std::size_t others = parameters.take<std::uint8_t>() % 100;
    const auto left_out = 2U + parameters.take<std::uint8_t>();
    std::vector<std::uint8_t> live(info.count);
    std::size_t count = others;
    for (std::size_t i = 0; i < info.count; ++i) {
      live[i] = static_cast<std::uint8_t>(i % left_out != 0);
      count += live[i];
    }
    const std::vector<std::uint8_t> all(others, 1);
    const hnsw::MergePart parts[] = {{&view, order, live}, {nullptr, {}, all}};
    hnsw::Params params = info.params;
    params.ef_construction = params.ef_construction % 50 + 1;
    const Data stored(count, info.dim);
    const auto graph = hnsw::merge(params, stored.vectors(info.dim, info.metric), parts, 1, {});
    hnsw::validate(*graph, count);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorruption) throw;
  }
  return 0;
}
