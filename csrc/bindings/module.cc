// akidb._core. Only akidb/_native.py imports it.
#include "bindings/arguments.h"

namespace akidb::bindings {

namespace {

struct Translation {
  const char* type;  // in akidb.errors
  const char* code;  // null: the type's own
};

Translation translation(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidInput:
      return {"InvalidInputError", nullptr};
    case ErrorKind::kConflict:
      return {"ConflictError", nullptr};
    case ErrorKind::kNotFound:
      return {"NotFoundError", nullptr};
    case ErrorKind::kDeadlineExceeded:
      return {"DeadlineExceededError", nullptr};
    case ErrorKind::kCancelled:
      return {"AkiDBError", "cancelled"};
    case ErrorKind::kCorruption:
      return {"CorruptionError", nullptr};
  }
  return {"AkiDBError", nullptr};
}

void translate(std::exception_ptr pointer) {  // NOLINT(performance-unnecessary-value-param): pybind11's signature
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const Translation to = translation(error.kind());
    const py::object type = py::module_::import("akidb.errors").attr(to.type);
    const py::object code = to.code == nullptr ? py::object(py::none()) : py::object(py::str(to.code));
    PyErr_SetObject(type.ptr(), type(error.what(), py::arg("code") = code).ptr());
  }
}

}  // namespace

}  // namespace akidb::bindings

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  using namespace akidb::bindings;
  pybind11::register_local_exception_translator(translate);
  bind_distance(module);
  bind_flat(module);
  bind_graph(module);
  bind_hnsw(module);
}
