// The parts of a saved index from elsewhere, taken into an index that then grows, shrinks and is searched.
#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "common/error.h"
#include "hnsw/index.h"
#include "hnsw/serialize.h"
#include "input.h"

using namespace akidb;
using namespace akidb::fuzz;

namespace {

constexpr std::int64_t kFirstId = 100;

void use(hnsw::Index& index, const Data& data, std::size_t dim, std::size_t count) {
  std::vector<std::int64_t> ids(10);
  std::vector<float> distances(10);
  hnsw::Index::Query query;
  query.queries = data.values.data();
  query.query_count = 1;
  query.k = 10;
  query.ef = 20;
  query.threads = 1;
  index.search(query, ids.data(), distances.data());
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(kFirstId) + count);
  for (std::size_t id = 0; id < mask.size(); id += 2) mask[id] = 1;
  query.id_mask = mask;
  index.search(query, ids.data(), distances.data());
  for (const std::int64_t id : ids) {
    if (id >= 0 && id % 2 != 0) std::abort();
  }
  query.id_mask.reset();
  const Data more(4, dim);
  index.add({nullptr, more.values.data(), 4}, 1, {});
  if (index.size() != count + 4) std::abort();
  if (count == 0) return;
  const std::int64_t first = index.ids().front();
  index.remove(&first, 1);
  index.search(query, ids.data(), distances.data());
  if (std::find(ids.begin(), ids.end(), first) != ids.end()) std::abort();
  index.validate();
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t size_max,
                                               unsigned seed) {
  return mutate_graph(data, size, size_max, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kParameterBytes) return 0;
  const AlignedBuffer<std::uint8_t> bytes = Input(data + kParameterBytes, size - kParameterBytes).rest();
  try {
    const hnsw::GraphInfo info = hnsw::read_header(bytes.data(), bytes.size());
    if (!is_small(info.count, info.dim)) return 0;
    const Data stored(info.count, info.dim);
    std::vector<std::int64_t> ids(info.count);
    std::iota(ids.begin(), ids.end(), kFirstId);
    hnsw::Index index({info.dim, info.metric, ElementType::kFloat32}, info.params);
    index.restore(info.count, ids.data(), stored.values.data(), {bytes.data(), bytes.size()});
    use(index, stored.values.empty() ? Data(1, info.dim) : stored, info.dim, info.count);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorruption) throw;
  }
  return 0;
}
