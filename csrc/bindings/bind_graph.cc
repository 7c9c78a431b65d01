// Graphs over vectors that somebody else owns, such as a mapped segment.
#include <algorithm>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "bindings/arguments.h"
#include "calibration/seal.h"
#include "flat/flat.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"
#include "hnsw/merge.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"

namespace akidb::bindings {

namespace {

// Graphs of parts of the vectors that are to be built upon; buffers and masks stay referenced.
class Parts {
 public:
  explicit Parts(const py::list& given) {
    for (const py::handle& each : given) {
      const auto part = each.cast<std::pair<std::optional<py::buffer>, MaskArray>>();
      const MaskArray& mask = masks_.emplace_back(part.second);
      hnsw::MergePart& made = parts_.emplace_back();
      made.live = {reinterpret_cast<const std::uint8_t*>(mask.data()), length_of(mask, "live")};
      if (part.first) open(*part.first, made);
    }
  }

  std::span<const hnsw::MergePart> span() const { return parts_; }
  std::size_t live() const {
    std::size_t live = 0;
    for (const hnsw::MergePart& part : parts_)
      live +=
          static_cast<std::size_t>(std::count_if(part.live.begin(), part.live.end(), [](auto x) { return x != 0; }));
    return live;
  }

 private:
  void open(const py::buffer& graph, hnsw::MergePart& part) {
    const py::buffer_info& buffer = buffers_.emplace_back(graph.request());
    if (!PyBuffer_IsContiguous(buffer.view(), 'C')) throw_invalid("graph: expected bytes in C order");
    const auto* bytes = static_cast<const std::uint8_t*>(buffer.ptr);
    const hnsw::GraphInfo info = hnsw::read_header(bytes, static_cast<std::size_t>(buffer.size * buffer.itemsize));
    if (info.count != part.live.size()) {
      throw Error(ErrorKind::kCorruption, "the graph was built over " + std::to_string(info.count) +
                                              " vectors, its part has " + std::to_string(part.live.size()));
    }
    part.graph = &views_.emplace_back(hnsw::open(bytes, info));
    part.order = hnsw::open_order(bytes, info);
    part.order.check();
  }

  std::vector<hnsw::MergePart> parts_;
  std::list<MaskArray> masks_;
  std::list<py::buffer_info> buffers_;
  std::list<hnsw::GraphView> views_;
};

std::unique_ptr<hnsw::Graph> built(const hnsw::Params& params, const hnsw::Vectors& vectors, std::size_t count,
                                   const Parts& parts, unsigned threads, const hnsw::Progress& progress) {
  if (!parts.span().empty()) return hnsw::merge(params, vectors, parts.span(), threads, progress);
  auto graph = std::make_unique<hnsw::Graph>(params, count);
  hnsw::build(*graph, vectors, 0, count, threads, progress);
  hnsw::connect(*graph, vectors, count);
  return graph;
}

py::object build_graph(const FloatArray& array, const std::string& metric, unsigned m, unsigned ef_construction,
                       const py::list& parts, unsigned threads, std::uint64_t seed, std::optional<unsigned> code_bits,
                       py::object progress, py::object stop) {
  if (array.ndim() != 2) throw_invalid("vectors: expected shape (n, dim)");
  const auto count = static_cast<std::size_t>(array.shape(0));
  const auto dim = static_cast<std::size_t>(array.shape(1));
  hnsw::Vectors vectors{ElementType::kFloat32, array.data(), dim * sizeof(float), dim, nullptr, parse_metric(metric)};
  const std::optional<quantization::CodeBits> bits = parse_code_bits(code_bits);
  const Parts reused(parts);
  if (!reused.span().empty() && reused.live() != count)
    throw_invalid("parts: " + std::to_string(reused.live()) + " rows are live, there are " + std::to_string(count) +
                  " vectors");
  AlignedBuffer<std::uint8_t> bytes;
  Watch(std::move(progress), std::move(stop)).run([&](const hnsw::Progress& watch) {
    AlignedBuffer<float> norms;
    if (vectors.metric == Metric::kCosine) {
      norms = AlignedBuffer<float>(count);
      flat::inverse_norms(vectors.type, vectors.data, count, dim, threads, norms.data());
      vectors.inverse_norms = norms.data();
    }
    const hnsw::Params params{m, ef_construction, seed};
    const std::unique_ptr<hnsw::Graph> graph = built(params, vectors, count, reused, threads, watch);
    const auto allocate = [&](std::size_t size) {
      bytes = {};  // not two at once
      bytes = AlignedBuffer<std::uint8_t>(size);
      return bytes.data();
    };
    const auto pause = [&] {
      if (!watch(count, count)) throw Error(ErrorKind::kCancelled, "stopped by the caller while sealing the graph");
    };
    calibration::seal(*graph, count, vectors, bits, threads, allocate, pause);
  });
  return to_array(std::move(bytes));
}

class GraphIndex {
 public:
  GraphIndex(py::array vectors, const py::buffer& graph, const std::string& metric,
             std::optional<FloatArray> inverse_norms, std::optional<IdArray> ids, const std::string& dtype,
             const std::optional<std::pair<py::object, std::uint64_t>>& file)
      : array_(std::move(vectors)), norms_(std::move(inverse_norms)), ids_(std::move(ids)), buffer_(graph.request()) {
    if (!PyBuffer_IsContiguous(buffer_.view(), 'C')) throw_invalid("graph: expected bytes in C order");
    bytes_ = static_cast<const std::uint8_t*>(buffer_.ptr);
    info_ = hnsw::read_header(bytes_, static_cast<std::size_t>(buffer_.size * buffer_.itemsize));
    view_ = hnsw::open(bytes_, info_);
    codes_ = hnsw::open_codes(bytes_, info_);
    calibration_ = hnsw::read_calibration(bytes_, info_);
    if (ids_ && length_of(*ids_, "ids") != info_.count) throw_invalid("ids: expected one per vector");
    const ElementType type = parse_type(dtype);
    const std::size_t count = rows_of(array_, type, "vectors");
    const auto width = static_cast<std::size_t>(array_.shape(1));
    if (info_.count != count || width_of(type, info_.dim) != width || info_.metric != parse_metric(metric)) {
      throw Error(ErrorKind::kCorruption, "the graph was built over " + std::to_string(info_.count) + " vectors of " +
                                              std::to_string(info_.dim) + " dimensions under " + to_word(info_.metric) +
                                              ", not over these " + std::to_string(count) + " of " +
                                              std::to_string(width) + " under " + metric);
    }
    vectors_ = {type,    array_.data(), vector_bytes(type, info_.dim),  info_.dim,
                nullptr, info_.metric,  hnsw::open_order(bytes_, info_)};
    if (file) {
      file_ = file->first;
      vectors_.file = {file_.attr("fileno")().cast<int>(), file->second, vectors_.stride_bytes};
    }
    if (info_.metric != Metric::kCosine) return;
    if (norms_) {
      if (length_of(*norms_, "inverse_norms") != info_.count) throw_invalid("inverse_norms: expected one per vector");
      vectors_.inverse_norms = norms_->data();
    } else {
      own_norms_ = AlignedBuffer<float>(info_.count);
      const py::gil_scoped_release release;
      flat::inverse_norms(type, vectors_.data, count, info_.dim, 0, own_norms_.data());
      vectors_.inverse_norms = own_norms_.data();
    }
  }

  py::tuple search(const py::array& queries, std::size_t k, std::size_t ef_search,
                   const std::optional<MaskArray>& allowed, std::optional<double> seconds, unsigned threads) const {
    hnsw::Request request;
    request.queries = queries.data();
    request.query_count = rows_of(queries, vectors_.type, vectors_.dim, "queries");
    request.k = k;
    request.ef = ef_search;
    if (codes_) request.codes = &codes_.value();
    request.count = info_.count;
    if (allowed) {
      if (length_of(*allowed, "allowed") != info_.count) throw_invalid("allowed: expected one value per vector");
      request.allowed = reinterpret_cast<const std::uint8_t*>(allowed->data());
    }
    request.threads = threads;
    Answer answer(request.query_count, k);
    std::int64_t* ids = answer.ids.mutable_data();
    float* distances = answer.distances.mutable_data();
    search_until(seconds, [&](const Stop& stop) {
      request.stop = stop;
      hnsw::check_vectors(vectors_.type, request.queries, request.query_count, vectors_.dim, info_.metric, "query");
      hnsw::search(view_, vectors_, request, ids, distances);
      name_rows(ids, request.query_count * k);
    });
    return answer.tuple();
  }

  py::dict validate() const {
    hnsw::Census census;
    {
      const py::gil_scoped_release release;
      hnsw::check_body(bytes_, info_);
      census = hnsw::validate(view_, info_.count);
      vectors_.order.check();
    }
    py::dict out;
    out["nodes"] = census.nodes;
    out["links"] = census.links;
    out["unreachable"] = census.unreachable;
    out["level"] = census.level;
    return out;
  }

  std::size_t ef_for(std::size_t k, double recall) const {
    if (!is_calibrated() && info_.count < hnsw::Calibration::kCountMin) return std::max(k, info_.count);  // all
    if (!is_calibrated()) {
      throw_invalid(
          "target_recall: nothing was measured for this graph, as seal() does: seal the index and save what "
          "that gives, or give ef_search");
    }
    return calibration_.ef_for(k, recall);
  }

  bool is_calibrated() const { return calibration_.queries > 0; }

  py::dict calibration() const {
    py::dict out;
    out["queries"] = calibration_.queries;
    out["ef"] = hnsw::Calibration::kEfs;
    for (std::size_t i = 0; i < hnsw::Calibration::kKs.size(); ++i) {
      const std::string at = "@" + std::to_string(hnsw::Calibration::kKs[i]);
      out[py::str("recall" + at)] = calibration_.recall[i];
      out[py::str("deviation" + at)] = calibration_.deviation[i];
    }
    return out;
  }

  std::size_t size() const { return info_.count; }
  const hnsw::GraphInfo& info() const { return info_; }

 private:
  void name_rows(std::int64_t* rows, std::size_t count) const {
    if (!ids_) return;
    const std::int64_t* ids = ids_->data();
    for (std::size_t i = 0; i < count; ++i) {
      if (rows[i] >= 0) rows[i] = ids[rows[i]];
    }
  }

  py::array array_;  // these five keep the memory alive, and the file open
  py::object file_;
  std::optional<FloatArray> norms_;
  std::optional<IdArray> ids_;
  py::buffer_info buffer_;
  const std::uint8_t* bytes_ = nullptr;
  hnsw::GraphInfo info_;
  hnsw::GraphView view_;
  std::optional<quantization::Codes> codes_;
  hnsw::Calibration calibration_;
  hnsw::Vectors vectors_;
  AlignedBuffer<float> own_norms_;
};

}  // namespace

void bind_graph(py::module_& module) {
  module.def("build_graph", build_graph, py::arg("vectors").noconvert(), py::arg("metric"), py::kw_only(), py::arg("m"),
             py::arg("ef_construction"), py::arg("parts"), py::arg("threads"), py::arg("seed"), py::arg("code_bits"),
             py::arg("progress"), py::arg("stop"));
  py::class_<GraphIndex>(module, "GraphIndex")
      .def(py::init<py::array, const py::buffer&, const std::string&, std::optional<FloatArray>, std::optional<IdArray>,
                    const std::string&, const std::optional<std::pair<py::object, std::uint64_t>>&>(),
           py::arg("vectors").noconvert(), py::arg("graph"), py::arg("metric"),
           py::arg("inverse_norms").noconvert() = py::none(), py::arg("ids").noconvert() = py::none(),
           py::arg("dtype") = "float32", py::arg("file") = py::none())
      .def("search", &GraphIndex::search, py::arg("queries").noconvert(), py::arg("k"), py::kw_only(),
           py::arg("ef_search"), py::arg("allowed").noconvert() = py::none(), py::arg("seconds") = py::none(),
           py::arg("threads") = 1)
      .def("ef_for", &GraphIndex::ef_for, py::arg("k"), py::arg("recall"))
      .def("calibration", &GraphIndex::calibration)
      .def_property_readonly("is_calibrated", &GraphIndex::is_calibrated)
      .def("validate", &GraphIndex::validate)
      .def("__len__", &GraphIndex::size)
      .def_property_readonly("m", [](const GraphIndex& self) { return self.info().params.m; })
      .def_property_readonly("ef_construction",
                             [](const GraphIndex& self) { return self.info().params.ef_construction; })
      .def_property_readonly("code_bits",
                             [](const GraphIndex& self) { return static_cast<unsigned>(self.info().code_bits); })
      .def_property_readonly("seed", [](const GraphIndex& self) { return self.info().params.seed; });
}

}  // namespace akidb::bindings
