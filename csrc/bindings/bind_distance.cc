#include "bindings/arguments.h"
#include "common/thread_pool.h"
#include "cpu/simd_level.h"
#include "flat/flat.h"
#include "hnsw/checksum.h"

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

FloatArray inverse_norms(const FloatArray& vectors, unsigned threads) {
  if (vectors.ndim() != 2) throw_invalid("vectors: expected shape (n, dim)");
  const auto count = static_cast<std::size_t>(vectors.shape(0));
  const auto dim = static_cast<std::size_t>(vectors.shape(1));
  FloatArray out(static_cast<py::ssize_t>(count));
  const float* in = vectors.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release release;
  flat::inverse_norms(in, count, dim, threads, to);
  return out;
}

std::uint32_t crc32c(const py::buffer& bytes, std::uint32_t crc) {
  const py::buffer_info info = bytes.request();
  if (!PyBuffer_IsContiguous(info.view(), 'C')) throw_invalid("bytes: expected C order");
  const py::gil_scoped_release release;
  return hnsw::crc32c(info.ptr, static_cast<std::size_t>(info.size * info.itemsize), crc);
}

}  // namespace

void bind_distance(py::module_& module) {
  module.def("simd_info", simd_info);
  module.def("crc32c", crc32c, py::arg("bytes"), py::arg("crc") = 0);
  module.def("inverse_norms", inverse_norms, py::arg("vectors").noconvert(), py::kw_only(), py::arg("threads"));
}

}  // namespace akidb::bindings
