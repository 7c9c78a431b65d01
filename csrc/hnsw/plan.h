// How a search goes about: a walk, how wide, how far beyond, or a scan, of codes or of vectors. Told by what each would
// cost and by the share of nodes that pass.
#pragma once

#include <cstddef>

#include "hnsw/passing.h"
#include "hnsw/search.h"
#include "hnsw/vectors.h"

namespace akidb::hnsw {

class Plan {
 public:
  // `m` is the graph's.
  Plan(const Request& request, const Vectors& vectors, const Passing& passes, unsigned m);

  // What is seen before any distance: whether to scan, and if not, the width of the first walk.
  bool is_scan() const { return is_scan_; }
  std::size_t first_width() const { return first_width_; }
  // Of a scan by codes: all nodes, asking of those near enough alone whether they pass.
  bool scans_in_order() const { return scans_in_order_; }
  // Nodes that pass lie so far from each other that their order is not asked for.
  bool is_scattered() const;
  // Of each query, not less than k.
  std::size_t ef() const { return ef_; }

  // What a scan by codes keeps. `times` is 1, or kMore where the filter is seen to have to do with the query.
  static constexpr std::size_t kMore = 8;
  std::size_t kept(std::size_t times) const;
  // Than codes of which so many are kept. Always, where there are none.
  bool vectors_are_cheaper(std::size_t times) const;
  // Than comparing all neighbours of `width` nodes, and those that pass of nodes up to `reach`.
  bool scan_is_cheaper(std::size_t width, std::size_t reach) const;

  // The nodes whose neighbours are looked at, where the k-th that passes is `rank`-th among those met.
  std::size_t reach_for(std::size_t rank) const;
  // Whether the k-th, and a few more, that passes lies much farther back than its share lets expect.
  bool is_far(std::size_t rank, std::size_t more = 0) const;
  // Whether of so many met so many fewer pass than of all that the others lie too far to be walked to.
  bool is_against(std::size_t passing, std::size_t met) const;

 private:
  double price_by_codes(std::size_t times) const;
  double price_again(std::size_t compared) const;
  std::size_t width_for(double one_in) const;

  std::size_t k_;
  std::size_t ef_;
  std::size_t count_;
  std::size_t passing_;
  double share_;  // that passes
  bool is_filtered_;
  bool has_codes_;
  bool is_mapped_;             // vectors lie in a file that they can be read from
  double neighbours_;          // of a node, that are compared
  double codes_price_ = 0.0;   // of a scan, before any are compared again
  double vector_price_ = 0.0;  // of one, where there are codes
  double scan_price_;
  std::size_t first_width_;
  bool scans_in_order_ = false;
  bool is_scan_;
};

}  // namespace akidb::hnsw
