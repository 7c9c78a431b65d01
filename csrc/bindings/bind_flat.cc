#include "bindings/arguments.h"
#include "flat/flat.h"

namespace akidb::bindings {

namespace {

py::tuple scan(const py::array& vectors, const std::string& metric, const py::array& queries, std::size_t k,
               const std::optional<MaskArray>& allowed, std::optional<double> seconds, unsigned threads,
               const std::optional<FloatArray>& inverse_norms, const std::string& dtype) {
  flat::Rows rows;
  rows.type = parse_type(dtype);
  rows.count = rows_of(vectors, rows.type, "vectors");
  rows.vectors = vectors.data();
  rows.dim = static_cast<std::size_t>(vectors.shape(1)) * (rows.type == ElementType::kBinary ? 8 : 1);
  rows.metric = parse_metric(metric);
  if (rows.type == ElementType::kBinary && rows.metric != Metric::kL2) throw_invalid("metric: binary vectors have l2");
  if (inverse_norms) {
    if (length_of(*inverse_norms, "inverse_norms") != rows.count)
      throw_invalid("inverse_norms: expected one per vector");
    rows.inverse_norms = inverse_norms->data();
  }
  flat::Request request;
  request.queries = queries.data();
  request.query_count = rows_of(queries, rows.type, rows.dim, "queries");
  request.k = k;
  if (allowed) {
    if (length_of(*allowed, "allowed") != rows.count) throw_invalid("allowed: expected one value per vector");
    request.allowed = reinterpret_cast<const std::uint8_t*>(allowed->data());
  }
  request.threads = threads;
  Answer answer(request.query_count, k);
  std::int64_t* ids = answer.ids.mutable_data();
  float* distances = answer.distances.mutable_data();
  search_until(seconds, [&](const Stop& stop) {
    request.stop = stop;
    flat::search(rows, request, ids, distances);
  });
  return answer.tuple();
}

}  // namespace

void bind_flat(py::module_& module) {
  module.def("scan", scan, py::arg("vectors").noconvert(), py::arg("metric"), py::arg("queries").noconvert(),
             py::arg("k"), py::kw_only(), py::arg("allowed").noconvert() = py::none(), py::arg("seconds") = py::none(),
             py::arg("threads") = 1, py::arg("inverse_norms").noconvert() = py::none(), py::arg("dtype") = "float32");
}

}  // namespace akidb::bindings
