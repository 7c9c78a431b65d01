#include "hnsw/validate.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/error.h"

namespace akidb::hnsw {

namespace {

[[noreturn]] void throw_wrong(Node node, unsigned level, const char* what) {
  throw Error(ErrorKind::kCorruption,
              "node " + std::to_string(node) + " of the graph " + what + " on level " + std::to_string(level));
}

// Returns the number of links.
template <class G>
std::size_t check_row(const G& graph, std::size_t count, Node node, unsigned level) {
  const typename G::Row row = graph.row(node, level);
  if (row == nullptr) throw_wrong(node, level, "has no row of links");
  const unsigned degree = graph.degree(level);
  const unsigned used = used_links(graph, row, degree);
  std::vector<Node> links(used);
  for (unsigned i = 0; i < used; ++i) links[i] = graph.link(row, i);
  for (const Node link : links) {
    if (link >= count) throw_wrong(node, level, "has a link to a node that does not exist");
    if (link == node) throw_wrong(node, level, "has a link to itself");
    if (graph.level(link) < level) throw_wrong(node, level, "has a link to a node that does not reach up there");
  }
  std::sort(links.begin(), links.end());
  if (std::adjacent_find(links.begin(), links.end()) != links.end())
    throw_wrong(node, level, "has the same link twice");
  for (unsigned i = used; i < degree; ++i) {
    if (graph.link(row, i) != kNoNode) throw_wrong(node, level, "has a gap in its links");
  }
  return used;
}

template <class G>
std::size_t count_unreachable(const G& graph, std::size_t count) {
  std::vector<bool> reached(count, false);
  std::vector<Node> open{graph.entry().node};
  reached[open.front()] = true;
  std::size_t total = 1;
  while (!open.empty()) {
    const typename G::Row row = graph.base_row(open.back());
    open.pop_back();
    for (unsigned i = 0; i < used_links(graph, row, graph.degree(0)); ++i) {
      const Node link = graph.link(row, i);
      if (reached[link]) continue;
      reached[link] = true;
      open.push_back(link);
      ++total;
    }
  }
  return count - total;
}

}  // namespace

template <class G>
Census validate(const G& graph, std::size_t count) {
  Census census;
  census.nodes = count;
  const EntryPoint entry = graph.entry();
  if (count == 0) {
    if (entry.node != kNoNode) throw Error(ErrorKind::kCorruption, "the graph is empty but has an entry point");
    return census;
  }
  if (entry.node >= count) throw Error(ErrorKind::kCorruption, "the graph's entry point is none of its nodes");
  if (graph.level(entry.node) != entry.level) throw_wrong(entry.node, entry.level, "is the entry point but isn't");
  census.level = entry.level;
  for (Node node = 0; node < count; ++node) {
    const unsigned level = graph.level(node);
    if (level > entry.level) throw_wrong(node, level, "stands above the entry point");
    census.links += check_row(graph, count, node, 0);
    for (unsigned l = 1; l <= level; ++l) check_row(graph, count, node, l);
  }
  census.unreachable = count_unreachable(graph, count);
  return census;
}

template Census validate(const Graph&, std::size_t);
template Census validate(const GraphView&, std::size_t);

}  // namespace akidb::hnsw
