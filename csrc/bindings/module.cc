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

// Free-threaded CPython needs no GIL for this module. What threads share, and what guards it: the kernels in use, a
// static set once (distance.cc); the pool's queue, a mutex, and its threads' scratch space, theirs alone
// (thread_pool.cc, walk.h); an HnswIndex, a writer's mutex and a reader's lock (index.h), tried by
// tests/cpp/hnsw/test_index.cc under ThreadSanitizer; a GraphIndex and an array given to a call, never written to here.
// NumPy arrays that the caller changes during a call are read torn, as by any other library. The codecs (akidb/codec,
// Cython) keep no state at all.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  using namespace akidb::bindings;
  pybind11::register_local_exception_translator(translate);
  bind_distance(module);
  bind_flat(module);
  bind_graph(module);
  bind_hnsw(module);
}
