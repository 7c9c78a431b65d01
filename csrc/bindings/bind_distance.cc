#include "bindings/arguments.h"
#include "common/thread_pool.h"
#include "cpu/simd_level.h"
#include "flat/flat.h"
#include "hnsw/checksum.h"
#include "hnsw/vectors.h"

namespace akidb::bindings {

namespace {

py::dict simd_info() {
  py::dict info;
  info["level"] = kernels().name;
  info["detected"] = to_string(detected_simd_level());
  py::list available;
  for (const SimdLevel level : kSimdLevels) {
    if (kernels_at(level) != nullptr) available.append(to_string(level));
  }
  info["available"] = available;
  info["threads"] = hardware_threads();
  return info;
}

FloatArray inverse_norms(const py::array& vectors, unsigned threads, const std::string& dtype) {
  const ElementType type = parse_type(dtype);
  if (type == ElementType::kBinary) throw_invalid("binary vectors have no norms");
  const std::size_t count = rows_of(vectors, type, "vectors");
  const auto dim = static_cast<std::size_t>(vectors.shape(1));
  FloatArray out(static_cast<py::ssize_t>(count));
  const void* in = vectors.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release release;
  flat::inverse_norms(type, in, count, dim, threads, to);
  return out;
}

void check_vectors(const py::array& vectors, std::size_t dim, const std::string& metric, const std::string& what,
                   const std::string& dtype) {
  const ElementType type = parse_type(dtype);
  const std::size_t count = rows_of(vectors, type, dim, "vectors");
  const void* in = vectors.data();
  const Metric parsed = parse_metric(metric);
  const py::gil_scoped_release release;
  hnsw::check_vectors(type, in, count, dim, parsed, what.c_str());
}

std::uint32_t crc32c(const py::buffer& bytes, std::uint32_t crc) {
  const py::buffer_info info = bytes.request();
  if (!PyBuffer_IsContiguous(info.view(), 'C')) throw_invalid("bytes: expected C order");
  const py::gil_scoped_release release;
  return hnsw::crc32c(info.ptr, static_cast<std::size_t>(info.size * info.itemsize), crc);
}

}  // namespace

void bind_distance(py::module_& module) {
  module.def("simd_info", simd_info,
             "What distances are computed with: the `level` of instructions in use, the one `detected`, those "
             "`available` here\n"
             "(words of AKIDB_SIMD_LEVEL, which lowers it), lowest first, and the `threads` of this machine. Raises\n"
             "InvalidInputError where AKIDB_SIMD_LEVEL is no level of this architecture.");
  module.def("crc32c", crc32c, py::arg("bytes"), py::arg("crc") = 0);
  module.def("check_vectors", check_vectors, py::arg("vectors").noconvert(), py::arg("dim"), py::arg("metric"),
             py::arg("what"), py::kw_only(), py::arg("dtype") = "float32");
  module.def("inverse_norms", inverse_norms, py::arg("vectors").noconvert(), py::kw_only(), py::arg("threads"),
             py::arg("dtype") = "float32");
}

}  // namespace akidb::bindings
