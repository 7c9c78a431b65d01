#include "bindings/arguments.h"
#include "flat/flat.h"

namespace akidb::bindings {

namespace {

py::tuple scan(const FloatArray& vectors, const std::string& metric, const FloatArray& queries, std::size_t k,
               const std::optional<MaskArray>& allowed, std::optional<double> seconds, unsigned threads,
               const std::optional<FloatArray>& inverse_norms) {
  if (vectors.ndim() != 2) throw_invalid("vectors: expected shape (n, dim)");
  flat::Rows rows;
  rows.vectors = vectors.data();
  rows.count = static_cast<std::size_t>(vectors.shape(0));
  rows.dim = static_cast<std::size_t>(vectors.shape(1));
  rows.metric = parse_metric(metric);
  if (inverse_norms) {
    if (length_of(*inverse_norms, "inverse_norms") != rows.count)
      throw_invalid("inverse_norms: expected one per vector");
    rows.inverse_norms = inverse_norms->data();
  }
  flat::Request request;
  request.queries = queries.data();
  request.query_count = rows_of(queries, rows.dim, "queries");
  request.k = k;
  if (allowed) {
    if (length_of(*allowed, "allowed") != rows.count) throw_invalid("allowed: expected one value per vector");
    request.allowed = reinterpret_cast<const std::uint8_t*>(allowed->data());
  }
  request.threads = threads;
  request.stop = stop_after(seconds);
  Answer answer(request.query_count, k);
  std::int64_t* ids = answer.ids.mutable_data();
  float* distances = answer.distances.mutable_data();
  {
    const py::gil_scoped_release release;
    flat::search(rows, request, ids, distances);
  }
  return answer.tuple();
}

}  // namespace

void bind_flat(py::module_& module) {
  module.def("scan", scan, py::arg("vectors").noconvert(), py::arg("metric"), py::arg("queries").noconvert(),
             py::arg("k"), py::kw_only(), py::arg("allowed").noconvert() = py::none(), py::arg("seconds") = py::none(),
             py::arg("threads") = 1, py::arg("inverse_norms").noconvert() = py::none());
}

}  // namespace akidb::bindings
