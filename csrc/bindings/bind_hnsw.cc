#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <utility>

#include "bindings/arguments.h"
#include "calibration/seal.h"
#include "hnsw/id_map.h"
#include "hnsw/index.h"

namespace akidb::bindings {

namespace {

using hnsw::Index;

// Where ids lie in an array of them, which stays referenced; of ids that are there twice one place.
class IdRows {
 public:
  explicit IdRows(IdArray ids) { extend(std::move(ids), 0); }

  // `ids` begin with the `known` first that it has, and take their place; what else it has is forgotten.
  void extend(IdArray ids, std::size_t known) {
    const std::size_t count = length_of(ids, "ids");
    if (count > hnsw::kNodesMax) throw_invalid("ids: " + std::to_string(count) + " are more than an index holds");
    if (known > count) throw_invalid("ids: " + std::to_string(known) + " are known, got " + std::to_string(count));
    const std::int64_t* data = ids.data();
    {
      const py::gil_scoped_release release;
      const std::unique_lock lock(mutex_);
      if (map_.size() != known) map_ = {};
      map_.reserve(count, data);
      for (std::size_t row = map_.size(); row < count; ++row) map_.insert(static_cast<hnsw::Node>(row), data);
      data_ = data;
    }
    std::swap(ids_, ids);
  }

  // int64 (n,), -1 for an id that is not there.
  IdArray rows(const IdArray& wanted) const {
    const std::size_t count = length_of(wanted, "ids");
    IdArray out(static_cast<py::ssize_t>(count));
    const std::span<const std::int64_t> span(wanted.data(), count);
    std::int64_t* to = out.mutable_data();
    const py::gil_scoped_release release;
    const std::shared_lock lock(mutex_);
    map_.find_each(span, data_, [to](std::size_t i, hnsw::Node node) {
      to[i] = node == hnsw::kNoNode ? -1 : static_cast<std::int64_t>(node);
    });
    return out;
  }

  std::size_t bytes() const {
    const std::shared_lock lock(mutex_);
    return map_.bytes();
  }

 private:
  mutable std::shared_mutex mutex_;  // guards data_ and map_
  IdArray ids_;
  const std::int64_t* data_ = nullptr;
  hnsw::IdMap map_;
};

Index::Rows rows(const Index& index, const std::optional<IdArray>& ids, const py::array& vectors) {
  Index::Rows rows;
  rows.count = rows_of(vectors, index.space().type, index.space().dim, "vectors");
  rows.vectors = vectors.data();
  if (ids) {
    if (length_of(*ids, "ids") != rows.count) {
      throw_invalid("got " + std::to_string(ids->shape(0)) + " ids for " + std::to_string(rows.count) + " vectors");
    }
    rows.ids = ids->data();
  }
  return rows;
}

void add(Index& index, const std::optional<IdArray>& ids, const py::array& vectors, unsigned threads,
         py::object progress) {
  const Index::Rows in = rows(index, ids, vectors);
  Watch(std::move(progress), py::none()).run([&](const hnsw::Progress& watch) { index.add(in, threads, watch); });
}

void update(Index& index, const IdArray& ids, const py::array& vectors, unsigned threads, py::object progress) {
  const Index::Rows in = rows(index, ids, vectors);
  Watch(std::move(progress), py::none()).run([&](const hnsw::Progress& watch) { index.update(in, threads, watch); });
}

void remove(Index& index, const IdArray& ids) {
  const std::size_t count = length_of(ids, "ids");
  const std::int64_t* data = ids.data();
  const py::gil_scoped_release release;
  index.remove(data, count);
}

py::tuple search(const Index& index, const py::array& queries, std::size_t k, std::size_t ef_search,
                 const std::optional<IdArray>& allowed_ids, const std::optional<MaskArray>& id_mask,
                 std::optional<double> seconds, unsigned threads) {
  Index::Query query;
  query.queries = queries.data();
  query.query_count = rows_of(queries, index.space().type, index.space().dim, "queries");
  query.k = k;
  query.ef = ef_search;
  if (allowed_ids) query.allowed_ids = {{allowed_ids->data(), length_of(*allowed_ids, "filter")}};
  if (id_mask)
    query.id_mask = {{reinterpret_cast<const std::uint8_t*>(id_mask->data()), length_of(*id_mask, "filter")}};
  query.threads = threads;
  Answer answer(query.query_count, k);
  std::int64_t* ids = answer.ids.mutable_data();
  float* distances = answer.distances.mutable_data();
  search_until(seconds, [&](const Stop& stop) {
    query.stop = stop;
    index.search(query, ids, distances);
  });
  return answer.tuple();
}

py::array get(const Index& index, const IdArray& ids) {
  const std::size_t count = length_of(ids, "ids");
  const hnsw::Space& space = index.space();
  py::array out(dtype_of(space.type), {count, width_of(space.type, space.dim)});
  const std::int64_t* in = ids.data();
  void* to = out.mutable_data();
  const py::gil_scoped_release release;
  index.get(in, count, to);
  return out;
}

IdArray ids(const Index& index) {
  const std::vector<std::int64_t> list = index.ids();
  return IdArray(static_cast<py::ssize_t>(list.size()), list.data());
}

// Arrays over the index's own memory, kept alive by it.
py::dict arrays(std::unique_ptr<Index::Parts> parts, const Index& index) {
  const Index::Parts& p = *parts;
  const auto count = static_cast<py::ssize_t>(p.count);
  const auto stride = static_cast<py::ssize_t>(p.stride_bytes);
  const hnsw::Space& space = index.space();
  const py::dtype dtype = dtype_of(space.type);
  const auto width = static_cast<py::ssize_t>(width_of(space.type, space.dim));
  py::dict out;
  const py::capsule owner(parts.release(), [](void* held) { delete static_cast<Index::Parts*>(held); });
  out["ids"] = IdArray({count}, p.ids, owner);
  out["vectors"] = py::array(dtype, {count, width}, {stride, dtype.itemsize()}, p.vectors, owner);
  out["norms"] = FloatArray({p.inverse_norms == nullptr ? 0 : count}, p.inverse_norms, owner);
  out["graph"] = py::array_t<std::uint8_t>({static_cast<py::ssize_t>(p.graph.size())}, p.graph.data(), owner);
  return out;
}

py::dict parts(Index& index) {
  std::unique_ptr<Index::Parts> parts;
  {
    const py::gil_scoped_release release;
    parts = std::make_unique<Index::Parts>(index.parts());
  }
  return arrays(std::move(parts), index);
}

py::dict seal(Index& index, std::optional<unsigned> code_bits) {
  const std::optional<quantization::CodeBits> bits = parse_code_bits(code_bits);
  std::unique_ptr<Index::Parts> parts;
  AlignedBuffer<std::uint8_t> bytes;
  Watch(py::none(), py::none()).run([&](const hnsw::Progress& watch) {
    const auto allocate = [&](std::size_t size) {
      bytes = {};  // not two at once
      bytes = AlignedBuffer<std::uint8_t>(size);
      return bytes.data();
    };
    const auto pause = [&] {
      if (!watch(0, 1)) throw Error(ErrorKind::kCancelled, "stopped by the caller while sealing the index");
    };
    const auto write = [&](const hnsw::Graph& graph, std::size_t count, const hnsw::Vectors& vectors) {
      calibration::seal(graph, count, vectors, bits, 0, allocate, pause);
    };
    parts = std::make_unique<Index::Parts>(index.parts(write));
  });
  py::dict out = arrays(std::move(parts), index);
  out["graph"] = to_array(std::move(bytes));
  return out;
}

void restore(Index& index, const IdArray& ids, const py::array& vectors, const py::buffer& graph) {
  const std::size_t count = rows_of(vectors, index.space().type, index.space().dim, "vectors");
  if (length_of(ids, "ids") != count) throw_invalid("ids: expected one per vector");
  const py::buffer_info bytes = graph.request();
  const std::span<const std::uint8_t> span(static_cast<const std::uint8_t*>(bytes.ptr),
                                           static_cast<std::size_t>(bytes.size * bytes.itemsize));
  const std::int64_t* id_data = ids.data();
  const void* vector_data = vectors.data();
  const py::gil_scoped_release release;
  index.restore(count, id_data, vector_data, span);
}

py::dict validate(Index& index) {
  hnsw::Census census;
  {
    const py::gil_scoped_release release;
    census = index.validate();
  }
  py::dict out;
  out["nodes"] = census.nodes;
  out["links"] = census.links;
  out["unreachable"] = census.unreachable;
  out["level"] = census.level;
  return out;
}

}  // namespace

void bind_hnsw(py::module_& module) {
  py::class_<IdRows>(module, "IdRows")
      .def(py::init<IdArray>(), py::arg("ids").noconvert())
      .def("extend", &IdRows::extend, py::arg("ids").noconvert(), py::arg("known"))
      .def("rows", &IdRows::rows, py::arg("ids").noconvert())
      .def_property_readonly("bytes", &IdRows::bytes);
  py::class_<Index>(module, "HnswIndex")
      .def(py::init([](std::size_t dim, const std::string& metric, unsigned m, unsigned ef_construction,
                       std::uint64_t seed, const std::string& dtype) {
             return std::make_unique<Index>(hnsw::Space{dim, parse_metric(metric), parse_type(dtype)},
                                            hnsw::Params{m, ef_construction, seed});
           }),
           py::arg("dim"), py::arg("metric"), py::arg("m"), py::arg("ef_construction"), py::arg("seed"),
           py::arg("dtype") = "float32")
      .def("add", add, py::arg("ids").noconvert(), py::arg("vectors").noconvert(), py::arg("threads"),
           py::arg("progress"))
      .def("update", update, py::arg("ids").noconvert(), py::arg("vectors").noconvert(), py::arg("threads"),
           py::arg("progress"))
      .def("remove", remove, py::arg("ids").noconvert())
      .def("search", search, py::arg("queries").noconvert(), py::arg("k"), py::arg("ef_search"),
           py::arg("allowed_ids").noconvert(), py::arg("id_mask").noconvert(), py::arg("seconds"), py::arg("threads"))
      .def("get", get, py::arg("ids").noconvert())
      .def("contains", &Index::contains, py::arg("id"))
      .def("ids", ids)
      .def("parts", parts)
      .def("seal", seal, py::arg("code_bits"))
      .def("restore", restore, py::arg("ids").noconvert(), py::arg("vectors").noconvert(), py::arg("graph"))
      .def("validate", validate)
      .def("__len__", &Index::size)
      .def_property_readonly("bytes", &Index::bytes);
}

}  // namespace akidb::bindings
