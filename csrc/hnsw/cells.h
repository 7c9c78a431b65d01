// Near nodes together, so that many find their neighbours at once.
//
// Each node is in the cell of the nearest of some leaders, which are nodes drawn at random, as in an inverted file
// (Jégou et al., "Product Quantization for Nearest Neighbor Search", PAMI 33(1), 2011). What is near it is in this
// cell, or in those of the leaders that are next nearest to it or to its companions. Codes lie in panels, cell by cell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "hnsw/code_panels.h"
#include "hnsw/vectors.h"

namespace akidb::hnsw {

class Cells {
 public:
  // Of some nodes, ascending, by their codes, on `threads` threads (0: one per processor). pause() is called on the
  // calling thread now and then, and may throw. Takes dim + 84 bytes for each node, and as much again of dim + 12 for
  // the places that stay empty, of which there are about eight to a cell. Codes must outlive this.
  Cells(const quantization::Codes& codes, const Vectors& vectors, std::span<const Node> nodes, unsigned threads,
        const std::function<void()>& pause);

  std::size_t size() const { return starts_.size() - 1; }
  std::span<const Node> members(std::size_t cell) const {
    return {members_.data() + starts_[cell], starts_[cell + 1] - starts_[cell]};
  }
  std::span<const Node> nodes() const { return members_; }  // cell by cell
  const CodePanels& panels() const { return panels_; }

  // To `out` the panels that have what is near to some members of a cell, given by their places among members(cell),
  // the most promising first, until they have `count` nodes. Those of the cell itself come first, from that of the
  // first member on: of a cell of many equal nodes each few meet others.
  void near(std::size_t cell, std::span<const std::uint32_t> some, std::size_t count,
            std::vector<std::size_t>& out) const;

 private:
  static constexpr std::size_t kLeaders = 16;  // nearest ones of a node, at most

  void choose_leaders();
  void assign(const Vectors& vectors, unsigned threads, const std::function<void()>& pause);
  struct Desk;
  void assign_block(const CodePanels& leaders, const Vectors& vectors, std::size_t first, std::size_t end, Desk& desk);
  void fill(unsigned threads);
  std::size_t panels_of(std::size_t cell) const { return (members(cell).size() + kCodePanel - 1) / kCodePanel; }

  const quantization::Codes& codes_;
  const std::span<const Node> nodes_;
  std::vector<Node> leaders_;
  std::size_t width_;                   // leaders kept of each node
  std::vector<std::uint32_t> nearest_;  // of each of nodes_, the nearest first
  std::vector<std::size_t> starts_;     // of the cells among members_
  std::vector<Node> members_;           // ascending in each cell
  std::vector<std::uint32_t> place_;    // of each member among nodes_
  std::vector<std::size_t> first_panels_;
  CodePanels panels_;
};

}  // namespace akidb::hnsw
