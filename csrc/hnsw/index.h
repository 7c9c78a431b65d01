// An index that owns its vectors: what `akidb.HnswIndex` is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "common/deadline.h"
#include "hnsw/id_map.h"
#include "hnsw/insert.h"
#include "hnsw/store.h"
#include "hnsw/validate.h"

namespace akidb::hnsw {

// Thread safety: any number of threads may search and read while one writes; writers wait for each other (each insert
// uses all processors).
//
// All that a search touches is a `Store` held by shared_ptr. A writer adds to it in place as long as it has room; what
// it adds is found once `shown` counts it, what it removes is passed over by searches that begin later. To grow it, or
// to drop removed nodes, a writer makes a new one and swaps the pointer; searches under way finish on the old one,
// which goes with its last user. So a node's number means one vector for the life of a Store, and a search never waits
// for a writer.
class Index {
 public:
  Index(const Space& space, const Params& params);

  struct Rows {
    const std::int64_t* ids = nullptr;  // null: on from the largest id in the index, the first being 0
    const void* vectors = nullptr;      // count vectors of the index's type, close together
    std::size_t count = 0;
  };
  // Adds all rows or, if it throws, none. Error: kInvalidInput (negative, repeated or existing id; a vector with NaN
  // or infinity; a zero vector under cosine), kCancelled (progress returned false). What it had put where there was
  // room then stays as removed nodes do.
  void add(const Rows& rows, unsigned threads, const Progress& progress);
  // Replaces the vectors of existing ids. Error as add, and kNotFound. What was replaced is removed as by `remove`.
  void update(const Rows& rows, unsigned threads, const Progress& progress);
  // From here on the ids are in no result. Error: kNotFound; then nothing was removed. Links of the graph are repaired
  // once a quarter of the nodes is removed.
  void remove(const std::int64_t* ids, std::size_t count);

  struct Query {
    const void* queries = nullptr;  // query_count vectors of the index's type, close together
    std::size_t query_count = 0;
    std::size_t k = 0;
    std::size_t ef = 0;
    std::optional<std::span<const std::int64_t>> allowed_ids;  // only these ids...
    std::optional<std::span<const std::uint8_t>> id_mask;      // ...or only ids whose byte is not 0
    unsigned threads = 1;
    Stop stop;
  };
  // Ids nearest first and distances, query_count x k, padded with -1 and +inf, all of them as the index was when the
  // search began. Error: kNotFound (an allowed id), kInvalidInput (a mask that is shorter than ids reach).
  void search(const Query& query, std::int64_t* out_ids, float* out_distances) const;

  // Copies the vectors of ids to out, count x vector_bytes. Error: kNotFound.
  void get(const std::int64_t* ids, std::size_t count, void* out) const;
  bool contains(std::int64_t id) const;
  std::vector<std::int64_t> ids() const;  // in the order of the nodes
  std::size_t size() const;
  std::size_t bytes() const;  // of memory held
  const Space& space() const { return space_; }
  const Params& params() const { return params_; }
  // Waits for writers.
  Census validate();

  // The parts of a saved index; pointers are valid until the next write.
  struct Parts {
    std::shared_ptr<const void> keep_alive;
    std::size_t count = 0;
    std::size_t stride_bytes = 0;  // of rows of vectors
    const std::int64_t* ids = nullptr;
    const void* vectors = nullptr;         // count x stride_bytes
    const float* inverse_norms = nullptr;  // null but for cosine
    std::vector<std::uint8_t> graph;
  };
  // Drops removed nodes first, and connects the rest.
  Parts parts();
  // The same without the bytes of the graph: `write` is given the graph itself, no writer being at work.
  using Write = std::function<void(const Graph&, std::size_t count, const Vectors&)>;
  Parts parts(const Write& write);
  // Fills an empty index with saved ids, vectors (close together) and graph, which are copied; the graph is checked
  // whole. Error: kCorruption, kInvalidInput.
  void restore(std::size_t count, const std::int64_t* ids, const void* vectors, std::span<const std::uint8_t> graph);

 private:
  void publish(std::shared_ptr<Store> store);
  void check_ids(const Rows& rows) const;
  void check_existing(const std::int64_t* ids, std::size_t count) const;
  void append(const Rows& rows, bool replaces, unsigned threads, const Progress& progress);
  void take_back(Node first, const std::shared_ptr<Store>& before);
  void reserve(std::size_t count);
  void take_out(std::int64_t id);
  void drop_removed();
  std::int64_t largest_id();
  void connect_now_and_then(Store& store, std::size_t added);
  std::vector<std::uint8_t> allowed_nodes(const Query& query) const;

  const void* nth(const void* vectors, std::size_t i) const {
    return static_cast<const std::uint8_t*>(vectors) + i * vector_bytes(space_.type, space_.dim);
  }

  const Space space_;
  const Params params_;
  std::mutex writer_;                       // held by the one thread that writes
  std::size_t added_ = 0;                   // nodes since all were connected
  std::optional<std::int64_t> largest_id_;  // nothing: to be looked for
  mutable std::shared_mutex mapping_;       // guards store_ (the pointer), nodes_, and what of it is shown or removed
  std::shared_ptr<Store> store_;
  IdMap nodes_;
};

}  // namespace akidb::hnsw
