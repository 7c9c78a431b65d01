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

// The store from before an add is kept until its end where it is up to this share of what comes, a fifth of all.
constexpr std::size_t kSmallShare = 4;

std::string at_position(std::int64_t id, std::size_t position) {
  return "id " + std::to_string(id) + " at position " + std::to_string(position);
}

// The largest id of the first `count` nodes that are not removed, -1 where there are none.
std::int64_t largest_of(const Store& store, std::size_t count) {
  std::int64_t largest = -1;
  for (Node node = 0; node < count; ++node) {
    if (!store.is_removed(node)) largest = std::max(largest, store.ids[node]);
  }
  return largest;
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
    if (!store->is_removed(node)) nodes.insert(node, store->ids.data());
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

// The new nodes are shown once all are linked, and at the same moment the old ones go which they replace.
void Index::append(const Rows& rows, bool replaces, unsigned threads, const Progress& progress) {
  if (rows.count == 0) return;
  const std::int64_t largest = largest_id();
  if (rows.ids == nullptr && largest > std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(rows.count))
    throw_invalid("no ids are left after " + std::to_string(largest) + ", the largest: give them");
  // Kept for the case that this is stopped, unless two copies of many vectors would lie there while it builds.
  const std::shared_ptr<Store> before = kSmallShare * store_->count <= rows.count ? store_ : nullptr;
  reserve(rows.count);
  Store& store = *store_;
  const auto first = static_cast<Node>(store.count);
  const auto end = static_cast<Node>(first + rows.count);
  for (Node node = first; node < end; ++node) {
    store.set_vector(node, nth(rows.vectors, node - first));
    store.ids[node] = rows.ids == nullptr ? largest + 1 + (node - first) : rows.ids[node - first];
  }
  store.count = end;
  try {
    build(store.graph, store.vectors(), first, rows.count, threads, progress, store.removals_so_far());
    connect_now_and_then(store, rows.count);
  } catch (...) {
    take_back(first, before);
    throw;
  }
  {
    const std::unique_lock lock(mapping_);
    if (replaces) store.begin_removal();
    for (Node node = first; node < end; ++node) {
      if (replaces) take_out(store.ids[node]);
      nodes_.insert(node, store.ids.data());
    }
    store.shown = end;
  }
  std::int64_t highest = largest;
  for (Node node = first; node < end; ++node) highest = std::max(highest, store.ids[node]);
  largest_id_ = highest;
  drop_removed();
}

// What an append that failed put at `first` and after. Where it had made a larger store of a small one, that one is
// there again; else the new nodes have links of the old ones, which only mending takes out, and that takes too long for
// somebody who wants to stop.
void Index::take_back(Node first, const std::shared_ptr<Store>& before) {
  Store& store = *store_;
  {
    const std::unique_lock lock(mapping_);
    store.begin_removal();
    for (auto node = first; node < store.count; ++node) store.remove(node);
    store.shown = store.count;
  }
  if (before != nullptr && before != store_) publish(before);
}

// Kept, since looking at all of them would make adding one by one slow.
std::int64_t Index::largest_id() {
  if (!largest_id_) largest_id_ = largest_of(*store_, store_->count);
  return *largest_id_;
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
  if (count == 0) return;
  const std::lock_guard writing(writer_);
  check_existing(ids, count);
  Store& store = *store_;
  {
    const std::unique_lock lock(mapping_);
    store.begin_removal();
    for (std::size_t i = 0; i < count; ++i) {
      if (nodes_.find(ids[i], store.ids.data()) == kNoNode) continue;  // named twice in one call
      take_out(ids[i]);
      if (ids[i] == largest_id_) largest_id_.reset();
    }
  }
  drop_removed();
}

// Of an id that is there, under mapping_.
void Index::take_out(std::int64_t id) {
  Store& store = *store_;
  store.remove(nodes_.find(id, store.ids.data()));
  nodes_.erase(id, store.ids.data());
}

// Once they are many, as they become by removing, by updating and by adding that is stopped.
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
  std::vector<std::uint8_t> allowed(store.shown, 0);
  if (query.allowed_ids) {
    nodes_.find_each(*query.allowed_ids, store.ids.data(), [&](std::size_t i, Node node) {
      if (node == kNoNode) throw_unknown("filter: ", (*query.allowed_ids)[i], i);
      allowed[node] = 1;
    });
    return allowed;
  }
  const auto mask = query.id_mask.value_or(std::span<const std::uint8_t>());
  for (Node node = 0; node < allowed.size(); ++node) {
    const std::int64_t id = store.ids[node];
    if (static_cast<std::uint64_t>(id) < mask.size()) {
      allowed[node] = mask[static_cast<std::size_t>(id)];
    } else if (!store.is_removed(node)) {
      const std::int64_t largest = largest_of(store, store.shown);
      throw_invalid("filter is a mask over " + std::to_string(mask.size()) + " ids, expected " +
                    std::to_string(static_cast<std::uint64_t>(largest) + 1) + " or more: the index holds id " +
                    std::to_string(largest));
    }
  }
  return allowed;
}

void Index::search(const Query& query, std::int64_t* out_ids, float* out_distances) const {
  check_vectors(space_.type, query.queries, query.query_count, space_.dim, space_.metric, "query");
  const bool is_filtered = query.allowed_ids || query.id_mask;
  std::shared_ptr<const Store> store;
  std::vector<std::uint8_t> allowed;
  Request request;
  {
    const std::shared_lock lock(mapping_);
    store = store_;
    if (is_filtered) allowed = allowed_nodes(query);
    request.count = store->shown;
    request.removals = store->removals_so_far();
    request.removed_count = store->removed_count;
  }
  request.queries = query.queries;
  request.query_count = query.query_count;
  request.k = query.k;
  request.ef = query.ef;
  request.allowed = is_filtered ? allowed.data() : nullptr;
  request.threads = query.threads;
  request.stop = query.stop;
  hnsw::search(store->graph, store->vectors(), request, out_ids, out_distances);
  for (std::size_t i = 0; i < query.query_count * query.k; ++i) {
    if (out_ids[i] >= 0) out_ids[i] = store->ids[static_cast<std::size_t>(out_ids[i])];
  }
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
  for (Node node = 0; node < store_->shown; ++node) {
    if (!store_->is_removed(node)) ids.push_back(store_->ids[node]);
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
  store->count = store->shown = count;
  const std::lock_guard writing(writer_);
  publish(std::move(store));
  largest_id_.reset();
}

}  // namespace akidb::hnsw
