#include "hnsw/delete.h"

#include <algorithm>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"
#include "hnsw/repair.h"

namespace akidb::hnsw {

EntryPoint highest(const Graph& graph, Node first, std::size_t count) {
  EntryPoint entry;
  for (Node node = first; node < first + count; ++node) {
    if (entry.node == kNoNode || graph.level(node) > entry.level) entry = {node, graph.level(node)};
  }
  return entry;
}

std::shared_ptr<Store> without_removed(const Store& from, std::size_t capacity) {
  const std::size_t count = from.count;
  std::vector<Node> new_number(count, kNoNode);
  std::vector<Node> stay;
  std::vector<std::uint8_t> levels;
  for (Node node = 0; node < count; ++node) {
    if (from.is_removed(node)) continue;
    new_number[node] = static_cast<Node>(stay.size());
    stay.push_back(node);
    levels.push_back(static_cast<std::uint8_t>(from.graph.level(node)));
  }
  auto to = std::make_shared<Store>(from.graph.params(), std::max(capacity, stay.size()), from.space, levels);
  for (const Node node : stay) to->copy_node(from, node, new_number[node]);
  to->count = to->shown = stay.size();
  if (stay.size() * 2 < count) {
    build(to->graph, to->vectors(), 0, stay.size(), 0, {});
  } else if (stay.size() == count) {
    to->graph.copy_links(from.graph, count);
  } else {
    const Vectors vectors = to->vectors();
    const Repair<Graph> repair(from.graph, new_number, to->graph, vectors);
    ThreadPool::shared().parallel_for(stay.size(), 0, [&](std::size_t i, unsigned) { repair(stay[i]); });
    to->graph.set_entry(highest(to->graph, 0, stay.size()));
    lead_back(to->graph, vectors, stay.size(), 0);
  }
  connect(to->graph, to->vectors(), stay.size());
  return to;
}

}  // namespace akidb::hnsw
