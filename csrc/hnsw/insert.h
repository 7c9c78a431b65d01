// Putting nodes into a graph.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "hnsw/graph.h"
#include "hnsw/passing.h"
#include "hnsw/vectors.h"
#include "hnsw/walk.h"

namespace akidb::hnsw {

// Whether the probe's point is nearer to any of the nodes than `distance`.
bool nearer_to_any(const Probe& probe, std::span<const Node> nodes, float distance);

// Algorithm 4 of the paper, SELECT-NEIGHBORS-HEURISTIC: of candidates in ascending order of distance to a point, those
// that are nearer to the point than to any already chosen, at most `limit`. Returns how many were written to `chosen`.
std::size_t select_neighbors(const Vectors& vectors, std::span<const Candidate> candidates, std::size_t limit,
                             Candidate* chosen);

// Puts candidates into the order of their true distances, nearest first, and notes these.
void sort_exactly(const Probe& exact, std::span<Candidate> candidates);

// Gives `owner` the nodes as neighbours and, where its row is full, keeps the best by Algorithm 4, of equally near ones
// those that are not removed: else the removed nodes of an id that is replaced by turns with two vectors keep the
// newest out of each other's rows, and after some 67 turns it is found no more. (That the new come before the old would
// do too, but among many equal vectors cuts those off which were reached before.) Those that it has already are passed
// over.
void take_links(Graph& graph, const Vectors& vectors, const Removals& removals, Node owner, unsigned level,
                std::span<const Node> nodes);

// What is known of a node before it is inserted. Only nodes of level 0 have such.
struct Hint {
  std::span<const Node> near;   // nodes of the graph that the walk begins with too
  std::span<const Node> mates;  // nodes of its batch that it is compared with, instead of all
  unsigned ef = 0;              // candidates of the walk, instead of ef_construction
};

// The hint for the i-th of all nodes to be inserted, whose batch are those from `first` to before `end`; none: nothing
// is known. Called on the thread that inserts the node; what it names is used until that thread asks again.
using Hints = std::function<std::optional<Hint>(std::size_t i, std::size_t first, std::size_t end)>;

// Algorithm 1 of the paper, INSERT, for many nodes at once and with the same outcome however many threads do it: first
// every node looks for its neighbours in the graph as it was and among those that come with it, then every link back
// is made, those to one node by one thread and in the order of the nodes. With codes (of all nodes) the walks compare
// them, and the vectors only of the candidates they end with.
class Batch {
 public:
  Batch(Graph& graph, const Vectors& vectors, const Removals& removals, const quantization::Codes* codes,
        unsigned threads)
      : graph_(graph), vectors_(vectors), removals_(removals), codes_(codes), threads_(threads) {}

  // Called on the calling thread now and then, with the nodes done so far; may throw.
  using Pause = std::function<void(std::size_t done)>;
  // Inserts nodes, whose vectors are in place; hint(i) is of the i-th, and may be empty. Searches may run meanwhile,
  // other writers may not.
  using HintOf = std::function<std::optional<Hint>(std::size_t i)>;
  void insert(std::span<const Node> nodes, const HintOf& hint, const Pause& pause);

 private:
  struct BackLink {
    Node owner;
    unsigned level;
    Node node;

    bool operator<(const BackLink& other) const;
  };

  template <class P>
  void choose_neighbors(std::size_t i, const std::optional<Hint>& hint, const P& probe, Scratch& scratch);
  template <class P>
  void compare_with_batch(std::size_t i, const P& probe, Scratch& scratch) const;
  template <class P>
  Candidate walk(const P& probe, unsigned level, const Hint& hint, Candidate nearest, Scratch& scratch) const;
  void link_back();

  Graph& graph_;
  const Vectors& vectors_;
  const Removals removals_;
  const quantization::Codes* codes_;
  unsigned threads_;
  std::span<const Node> nodes_;
  std::vector<std::vector<BackLink>> made_;  // of each node of the batch
  std::vector<BackLink> links_;              // all of them, by level and owner
  std::vector<std::size_t> groups_;          // where the links of the next owner begin
};

// Told now and then, on the calling thread, how many of how many nodes are in; false stops the work with
// Error(kCancelled).
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

// Inserts `joining` into the graph, which has `count` nodes with them, on `threads` threads (0: one per processor).
// Where that is faster it compares 8-bit codes made for the purpose, of many nodes with many (insert_cells.h): about
// 2.2 * dim + 6 * m + 120 bytes for each of all nodes until it returns, with hints dim + 8. If it throws, some of the
// nodes are linked and some are not.
void insert_all(Graph& graph, const Vectors& vectors, std::size_t count, std::span<const Node> joining,
                const Hints& hints, unsigned threads, const Progress& progress, const Removals& removals = {});

// Inserts nodes [first, first + count) into a graph of those before, of which some may be removed. The graph depends on
// vectors, params and removals alone.
void build(Graph& graph, const Vectors& vectors, Node first, std::size_t count, unsigned threads,
           const Progress& progress, const Removals& removals = {});

}  // namespace akidb::hnsw
