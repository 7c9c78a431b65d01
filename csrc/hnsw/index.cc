#include "hnsw/index.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <unordered_set>

#include "common/error.h"
#include "hnsw/connect.h"
#include "hnsw/delete.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"

namespace akidb::hnsw {

namespace {

// The store is built anew without its removed nodes when they are this share of it: a node's links are then repaired a
// few times in its life, and a search walks through at most a third more nodes than it may return.
constexpr std::size_t kRemovedShare = 4;
constexpr std::size_t kRemovedMin = 64;  // below, copying costs more than walking around

std::string at_position(std::int64_t id, std::size_t position) {
  return "id " + std::to_string(id) + " at position " + std::to_string(position);
}

[[noreturn]] void throw_unknown(const char* where, std::int64_t id, std::size_t position) {
  throw Error(ErrorKind::kNotFound, where + at_position(id, position) + " does not exist");
}

}  // namespace

Index::Index(const Space& space, const Params& params) : space_(space), params_(params) {
  if (space.dim < 1 || space.dim > kDimMax)
    throw_invalid("dim is " + std::to_string(space.dim) + ", expected 1 to " + std::to_string(kDimMax));
  if (space.type == ElementType::kBinary && space.metric != Metric::kL2)
    throw_invalid("binary vectors are compared by their Hamming distance alone");
  params.check();
  store_ = std::make_shared<Store>(params, 0, space);
}

void Index::publish(std::shared_ptr<Store> store) {
  IdMap nodes;
  nodes.reserve(store->capacity(), store->ids.data());
  for (Node node = 0; node < store->count; ++node) {
    if (store->removed[node] == 0) nodes.insert(node, store->ids.data());
  }
  // `store` takes the old one out of the lock's scope, where freeing it makes nobody wait.
  const std::unique_lock lock(mapping_);
  store_.swap(store);
  nodes_ = std::move(nodes);
}

void Index::check_ids(const Rows& rows) const {
  if (rows.ids == nullptr) return;
  std::unordered_set<std::int64_t> seen;
  seen.reserve(rows.count);
  for (std::size_t i = 0; i < rows.count; ++i) {
    if (rows.ids[i] < 0) throw_invalid(at_position(rows.ids[i], i) + " is negative");
    if (!seen.insert(rows.ids[i]).second) throw_invalid(at_position(rows.ids[i], i) + " is there twice");
  }
}

void Index::check_existing(const std::int64_t* ids, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i) {
    if (nodes_.find(ids[i], store_->ids.data()) == kNoNode) throw_unknown("", ids[i], i);
  }
}

void Index::add(const Rows& rows, unsigned threads, const Progress& progress) {
  check_vectors(space_.type, rows.vectors, rows.count, space_.dim, space_.metric, "vector");
  check_ids(rows);
  const std::lock_guard writing(writer_);
  for (std::size_t i = 0; rows.ids != nullptr && i < rows.count; ++i) {
    if (nodes_.find(rows.ids[i], store_->ids.data()) == kNoNode) continue;
    throw_invalid(at_position(rows.ids[i], i) + " exists already; update replaces vectors");
  }
  append(rows, false, threads, progress);
}

void Index::update(const Rows& rows, unsigned threads, const Progress& progress) {
  check_vectors(space_.type, rows.vectors, rows.count, space_.dim, space_.metric, "vector");
  check_ids(rows);
  const std::lock_guard writing(writer_);
  check_existing(rows.ids, rows.count);
  // What is there already is left: nodes of equal vectors, removed ones too, fill each other's links, and in the end
  // the last of them has none that lead to it.
  std::vector<std::size_t> changed;
  const std::size_t bytes = vector_bytes(space_.type, space_.dim);
  for (std::size_t i = 0; i < rows.count; ++i) {
    const std::size_t node = nodes_.find(rows.ids[i], store_->ids.data());
    if (std::memcmp(&store_->rows[node * store_->stride_bytes], nth(rows.vectors, i), bytes) != 0) changed.push_back(i);
  }
  if (changed.size() == rows.count) {
    append(rows, true, threads, progress);
    return;
  }
  std::vector<std::int64_t> ids;
  std::vector<std::uint8_t> vectors;
  for (const std::size_t i : changed) {
    const auto* row = static_cast<const std::uint8_t*>(nth(rows.vectors, i));
    ids.push_back(rows.ids[i]);
    vectors.insert(vectors.end(), row, row + bytes);
  }
  append({ids.data(), vectors.data(), ids.size()}, true, threads, progress);
}

// Where vectors are replaced the new nodes stay hidden until all are linked. Then they take the old ones' places under
// mapping_. A search that met both drops one; one that began before and met the old one after finds neither.
void Index::append(const Rows& rows, bool replaces, unsigned threads, const Progress& progress) {
  const std::int64_t largest = largest_id();
  if (rows.ids == nullptr && rows.count > 0 &&
      largest > std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(rows.count))
    throw_invalid("no ids are left after " + std::to_string(largest) + ", the largest: give them");
  reserve(rows.count);
  Store& store = *store_;
  const auto first = static_cast<Node>(store.count);
  const auto end = static_cast<Node>(first + rows.count);
  for (Node node = first; node < end; ++node) {
    store.set_vector(node, nth(rows.vectors, node - first));
    store.ids[node] = rows.ids == nullptr ? largest + 1 + (node - first) : rows.ids[node - first];
    if (replaces) store.hide(node);
  }
  store.count = end;
  try {
    build(store.graph, store.vectors(), first, rows.count, threads, progress);
    connect_now_and_then(store, rows.count);
  } catch (...) {
    for (Node node = first; !replaces && node < end; ++node) store.hide(node);
    throw;
  }
  {
    const std::unique_lock lock(mapping_);
    for (Node node = first; node < end; ++node) {
      if (replaces) {
        store.hide(nodes_.find(store.ids[node], store.ids.data()));
        nodes_.erase(store.ids[node], store.ids.data());
        store.show(node);
      }
      nodes_.insert(node, store.ids.data());
    }
  }
  std::int64_t highest = largest;
  for (Node node = first; node < end; ++node) highest = std::max(highest, store.ids[node]);
  largest_id_ = highest;
  if (replaces) drop_removed();
}

// Of those in the index, -1 where there are none. Kept, since looking at all of them would make adding one by one slow.
std::int64_t Index::largest_id() {
  if (largest_id_) return *largest_id_;
  std::int64_t largest = -1;
  for (Node node = 0; node < store_->count; ++node) {
    if (store_->removed[node] == 0) largest = std::max(largest, store_->ids[node]);
  }
  largest_id_ = largest;
  return largest;
}

// Looking at the whole graph costs as little as a few inserts per thousand nodes; done once per eighth of the nodes.
void Index::connect_now_and_then(Store& store, std::size_t added) {
  added_ += added;
  if (added_ < store.count / 8) return;
  connect(store.graph, store.vectors(), store.count);
  added_ = 0;
}

// Room for `count` more nodes. The first rows get exactly the room they need, since a bulk load is often all there
// ever is.
void Index::reserve(std::size_t count) {
  const std::size_t used = store_->count - store_->removed_count;
  if (count > kNodesMax - used) throw_invalid("an index holds at most " + std::to_string(kNodesMax) + " vectors");
  if (store_->count + count <= store_->capacity()) return;
  const std::size_t roomy = std::min(used + used / 2 + 64, kNodesMax);
  publish(without_removed(*store_, used == 0 ? count : std::max(used + count, roomy)));
}

void Index::remove(const std::int64_t* ids, std::size_t count) {
  const std::lock_guard writing(writer_);
  check_existing(ids, count);
  Store& store = *store_;
  {
    const std::unique_lock lock(mapping_);
    for (std::size_t i = 0; i < count; ++i) {
      const Node node = nodes_.find(ids[i], store.ids.data());
      if (node == kNoNode) continue;  // named twice in one call
      nodes_.erase(ids[i], store.ids.data());
      store.hide(node);
      if (ids[i] == largest_id_) largest_id_.reset();
    }
  }
  drop_removed();
}

// Once they are many, as they become by removing and by updating.
void Index::drop_removed() {
  Store& store = *store_;
  if (store.removed_count < kRemovedMin || store.removed_count * kRemovedShare < store.count) return;
  // Room for as many as before: who removes or updates often adds as often.
  const bool mostly_empty = nodes_.size() * 2 < store.capacity();
  publish(without_removed(store, mostly_empty ? 0 : store.capacity()));
}

// Under mapping_, so that nodes and store belong together.
std::vector<std::uint8_t> Index::allowed_nodes(const Query& query) const {
  const Store& store = *store_;
  std::vector<std::uint8_t> allowed(store.count, 0);
  if (query.allowed_ids) {
    for (std::size_t i = 0; i < query.allowed_ids->size(); ++i) {
      const std::int64_t id = (*query.allowed_ids)[i];
      const Node node = nodes_.find(id, store.ids.data());
      if (node == kNoNode) throw_unknown("filter: ", id, i);
      allowed[node] = 1;
    }
    return allowed;
  }
  const auto mask = query.id_mask.value_or(std::span<const std::uint8_t>());
  for (Node node = 0; node < allowed.size(); ++node) {
    const std::int64_t id = store.ids[node];
    if (static_cast<std::uint64_t>(id) < mask.size()) {
      allowed[node] = mask[static_cast<std::size_t>(id)];
    } else if (nodes_.find(id, store.ids.data()) == node) {  // neither removed nor of an add that is under way
      throw_invalid("filter is a mask over " + std::to_string(mask.size()) + " ids, expected " +
                    std::to_string(id + 1) + " or more: the index holds id " + std::to_string(id));
    }
  }
  return allowed;
}

// Leaves out what was removed since the search met it, and what was replaced where the answer has what took its place.
// True where something was.
bool Index::drop_hidden(const Store& store, std::size_t k, std::int64_t* nodes, float* distances) const {
  const auto id_of = [&](std::int64_t node) { return store.ids[static_cast<std::size_t>(node)]; };
  const auto is_hidden = [&](std::int64_t node) { return store.is_removed(static_cast<Node>(node)); };
  const std::shared_lock lock(mapping_);
  const auto found =
      static_cast<std::size_t>(std::find_if(nodes, nodes + k, [](auto node) { return node < 0; }) - nodes);
  if (std::none_of(nodes, nodes + found, is_hidden)) return false;
  std::unordered_set<std::int64_t> told;
  for (std::size_t i = 0; i < found; ++i) {
    if (!is_hidden(nodes[i])) told.insert(id_of(nodes[i]));
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < found; ++i) {
    const std::int64_t id = id_of(nodes[i]);
    if (is_hidden(nodes[i]) && (nodes_.find(id, store_->ids.data()) == kNoNode || !told.insert(id).second)) continue;
    nodes[kept] = nodes[i];
    distances[kept++] = distances[i];
  }
  std::fill(nodes + kept, nodes + found, -1);
  std::fill(distances + kept, distances + found, std::numeric_limits<float>::infinity());
  return kept < found;
}

void Index::search(const Query& query, std::int64_t* out_ids, float* out_distances) const {
  check_vectors(space_.type, query.queries, query.query_count, space_.dim, space_.metric, "query");
  for (const std::size_t i : search_once(query, out_ids, out_distances)) {
    Query again = query;  // others may take the places of those that were hidden
    again.queries = nth(query.queries, i);
    again.query_count = 1;
    search_once(again, out_ids + i * query.k, out_distances + i * query.k);
  }
}

// Returns which answers are shorter because what they held was hidden meanwhile.
std::vector<std::size_t> Index::search_once(const Query& query, std::int64_t* out_ids, float* out_distances) const {
  const bool is_filtered = query.allowed_ids || query.id_mask;
  std::shared_ptr<const Store> store;
  std::vector<std::uint8_t> allowed;
  {
    const std::shared_lock lock(mapping_);
    store = store_;
    if (is_filtered) allowed = allowed_nodes(query);
  }
  Request request;
  request.queries = query.queries;
  request.query_count = query.query_count;
  request.k = query.k;
  request.ef = query.ef;
  request.count = is_filtered ? allowed.size() : store->count.load();
  request.allowed = is_filtered ? allowed.data() : nullptr;
  request.removed = store->removed.data();  // also where none is removed yet: an update may hide nodes meanwhile
  request.removed_count = store->removed_count;
  request.threads = query.threads;
  request.stop = query.stop;
  hnsw::search(store->graph, store->vectors(), request, out_ids, out_distances);
  std::vector<std::size_t> shortened;
  for (std::size_t i = 0; i < query.query_count; ++i) {
    std::int64_t* nodes = out_ids + i * query.k;
    if (drop_hidden(*store, query.k, nodes, out_distances + i * query.k)) shortened.push_back(i);
    for (std::size_t j = 0; j < query.k && nodes[j] >= 0; ++j)
      nodes[j] = store->ids[static_cast<std::size_t>(nodes[j])];
  }
  return shortened;
}

void Index::get(const std::int64_t* ids, std::size_t count, void* out) const {
  const std::shared_lock lock(mapping_);
  check_existing(ids, count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t node = nodes_.find(ids[i], store_->ids.data());
    const std::size_t bytes = vector_bytes(space_.type, space_.dim);
    std::memcpy(static_cast<std::uint8_t*>(out) + i * bytes, &store_->rows[node * store_->stride_bytes], bytes);
  }
}

bool Index::contains(std::int64_t id) const {
  const std::shared_lock lock(mapping_);
  return nodes_.find(id, store_->ids.data()) != kNoNode;
}

std::vector<std::int64_t> Index::ids() const {
  const std::shared_lock lock(mapping_);
  std::vector<std::int64_t> ids;
  ids.reserve(nodes_.size());
  for (Node node = 0; node < store_->count; ++node) {
    // A node of an add that is under way is in the store, but not yet in the map.
    if (nodes_.find(store_->ids[node], store_->ids.data()) == node) ids.push_back(store_->ids[node]);
  }
  return ids;
}

std::size_t Index::size() const {
  const std::shared_lock lock(mapping_);
  return nodes_.size();
}

std::size_t Index::bytes() const {
  const std::shared_lock lock(mapping_);
  return store_->bytes() + nodes_.bytes();
}

Census Index::validate() {
  const std::lock_guard writing(writer_);
  return hnsw::validate(store_->graph, store_->count);
}

Index::Parts Index::parts() {
  std::vector<std::uint8_t> bytes;
  Parts parts = this->parts([&](const Graph& graph, std::size_t count, const Vectors& vectors) {
    bytes.resize(serialized_bytes(graph, count));
    serialize(graph, count, vectors.metric, vectors.dim, bytes.data());
  });
  parts.graph = std::move(bytes);
  return parts;
}

Index::Parts Index::parts(const Write& write) {
  const std::lock_guard writing(writer_);
  if (store_->removed_count > 0) publish(without_removed(*store_, 0));
  connect(store_->graph, store_->vectors(), store_->count);
  const std::shared_ptr<const Store> store = store_;
  Parts parts;
  parts.count = store->count;
  parts.stride_bytes = store->stride_bytes;
  parts.ids = store->ids.data();
  parts.vectors = store->rows.data();
  parts.inverse_norms = store->inverse_norms.data();
  parts.keep_alive = store;
  write(store->graph, store->count, store->vectors());
  return parts;
}

void Index::restore(std::size_t count, const std::int64_t* ids, const void* vectors,
                    std::span<const std::uint8_t> bytes) {
  const GraphInfo info = read_header(bytes.data(), bytes.size());
  check_body(bytes.data(), info);
  if (info.count != count || info.dim != space_.dim || info.metric != space_.metric) {
    throw Error(ErrorKind::kCorruption, "the graph was built over other vectors");
  }
  const GraphView view = open(bytes.data(), info);
  hnsw::validate(view, count);
  const Order order = open_order(bytes.data(), info);
  order.check();
  std::vector<std::uint8_t> levels(count);
  for (Node node = 0; node < count; ++node) levels[order.row_of(node)] = static_cast<std::uint8_t>(view.level(node));
  auto store = std::make_shared<Store>(params_, count, space_, levels);
  copy_links(view, order, store->graph);
  std::copy_n(ids, count, store->ids.data());
  for (Node node = 0; node < count; ++node) store->set_vector(node, nth(vectors, node));
  store->count = count;
  const std::lock_guard writing(writer_);
  publish(std::move(store));
  largest_id_.reset();
}

}  // namespace akidb::hnsw
