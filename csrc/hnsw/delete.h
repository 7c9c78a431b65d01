// Taking removed nodes out of the graph. Until then they are hidden from results and walked through.
#pragma once

#include <cstddef>
#include <memory>

#include "hnsw/store.h"

namespace akidb::hnsw {

// A store without the removed nodes of `from`, and with room for `capacity` nodes; `from` is only read.
//
// Links are repaired as `Repair` says, and nodes that nothing near leads to any more get one (`lead_back`). Where more
// than half of the nodes are removed too little is left to repair, and the graph is built anew.
std::shared_ptr<Store> without_removed(const Store& from, std::size_t capacity);

}  // namespace akidb::hnsw
