// What all bindings need: checking shapes, and letting Python interrupt native work.
//
// Dtype, layout and meaning of arguments are the business of akidb/index; what is checked here is what would lead
// outside memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "common/deadline.h"
#include "common/error.h"
#include "distance/distance.h"
#include "quantization/codes.h"

namespace akidb::bindings {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style>;
using IdArray = py::array_t<std::int64_t, py::array::c_style>;
using MaskArray = py::array_t<bool, py::array::c_style>;

inline Metric parse_metric(const std::string& word) {
  if (word == "cosine") return Metric::kCosine;
  if (word == "l2") return Metric::kL2;
  if (word == "ip") return Metric::kInnerProduct;
  throw_invalid("metric is '" + word + "', expected cosine, l2 or ip");
}

inline ElementType parse_type(const std::string& word) {
  constexpr const char* kWords[kElementTypes] = {"float32", "float16", "bfloat16", "int8", "uint8", "binary"};
  for (std::size_t i = 0; i < kElementTypes; ++i) {
    if (word == kWords[i]) return static_cast<ElementType>(i);
  }
  throw_invalid("dtype is '" + word + "', expected float32, float16, bfloat16, int8, uint8 or binary");
}

// Numpy has no bfloat16 and no bits: uint16 and uint8 stand for them.
inline py::dtype dtype_of(ElementType type) {
  constexpr const char* kDtypes[kElementTypes] = {"float32", "float16", "uint16", "int8", "uint8", "uint8"};
  return py::dtype(kDtypes[static_cast<std::size_t>(type)]);
}

// Whether that is it, in this machine's order of bytes. Making a dtype of a word to compare takes half a microsecond.
inline bool is_dtype_of(const py::dtype& dtype, ElementType type) {
  constexpr char kCodes[kElementTypes] = {'f', 'e', 'H', 'b', 'B', 'B'};
  const char order = dtype.byteorder();
  return dtype.char_() == kCodes[static_cast<std::size_t>(type)] && (order == '=' || order == '|');
}

// Elements of a row of such an array.
inline std::size_t width_of(ElementType type, std::size_t dim) {
  return type == ElementType::kBinary ? vector_bytes(type, dim) : dim;
}

// Nothing: what serves.
inline std::optional<quantization::CodeBits> parse_code_bits(std::optional<unsigned> bits) {
  if (!bits) return std::nullopt;
  if (*bits == 0 || *bits == 4 || *bits == 8) return static_cast<quantization::CodeBits>(*bits);
  throw_invalid("code_bits is " + std::to_string(*bits) + ", expected 0, 4 or 8");
}

// The array of bytes in an aligned buffer, kept alive by it; read-only.
inline py::array_t<std::uint8_t> to_array(AlignedBuffer<std::uint8_t> buffer) {
  auto held = std::make_unique<AlignedBuffer<std::uint8_t>>(std::move(buffer));
  const std::uint8_t* data = held->data();
  const auto size = static_cast<py::ssize_t>(held->size());
  const py::capsule owner(held.release(), [](void* at) { delete static_cast<AlignedBuffer<std::uint8_t>*>(at); });
  py::array_t<std::uint8_t> out({size}, data, owner);
  out.attr("flags").attr("writeable") = false;
  return out;
}

inline const char* to_word(Metric metric) {
  return metric == Metric::kCosine ? "cosine" : metric == Metric::kL2 ? "l2" : "ip";
}

// Rows of a two-dimensional array of vectors close together.
inline std::size_t rows_of(const py::array& array, ElementType type, const char* name) {
  if (!is_dtype_of(array.dtype(), type))
    throw_invalid(std::string(name) + ": expected dtype " + std::string(py::str(dtype_of(type))));
  if (array.ndim() != 2) throw_invalid(std::string(name) + ": expected shape (n, dim)");
  if ((array.flags() & py::array::c_style) == 0) throw_invalid(std::string(name) + ": expected C order");
  return static_cast<std::size_t>(array.shape(0));
}

inline std::size_t rows_of(const py::array& array, ElementType type, std::size_t dim, const char* name) {
  const std::size_t width = width_of(type, dim);
  const std::size_t rows = rows_of(array, type, name);
  if (static_cast<std::size_t>(array.shape(1)) != width)
    throw_invalid(std::string(name) + ": expected shape (n, " + std::to_string(width) + ")");
  return rows;
}

inline std::size_t length_of(const py::array& array, const char* name) {
  if (array.ndim() != 1)
    throw_invalid(std::string(name) + ": expected one dimension, got " + std::to_string(array.ndim()));
  return static_cast<std::size_t>(array.shape(0));
}

// k nearest of each query, as two arrays of shape (queries, k).
struct Answer {
  Answer(std::size_t queries, std::size_t k)
      : ids({static_cast<py::ssize_t>(queries), static_cast<py::ssize_t>(k)}),
        distances({static_cast<py::ssize_t>(queries), static_cast<py::ssize_t>(k)}) {}
  py::tuple tuple() { return py::make_tuple(std::move(ids), std::move(distances)); }

  IdArray ids;
  FloatArray distances;
};

// Called by native work now and then without the GIL: runs signal handlers (Ctrl-C), the caller's progress(done,
// total), and asks the caller's stop event. What Python raises meanwhile is kept, stops the work, and is raised again
// by rethrow() once the work has ended.
class Watch {
 public:
  Watch(py::object progress, py::object stop) : progress_(std::move(progress)), stop_(std::move(stop)) {}

  bool operator()(std::size_t done, std::size_t total) {
    const py::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!progress_.is_none()) progress_(done, total);
      return stop_.is_none() || !stop_.attr("is_set")().cast<bool>();
    } catch (py::error_already_set&) {
      raised_ = std::current_exception();
      return false;
    }
  }
  void rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

  // Runs work(progress) without the GIL.
  template <class Work>
  void run(Work&& work) {
    std::exception_ptr failed;
    {
      const py::gil_scoped_release release;
      try {
        work([this](std::size_t done, std::size_t total) { return (*this)(done, total); });
      } catch (...) {
        failed = std::current_exception();
      }
    }
    rethrow();
    if (failed) std::rethrow_exception(failed);
  }

 private:
  py::object progress_;
  py::object stop_;
  std::exception_ptr raised_;
};

// Runs work(stop) of a search without the GIL, until `seconds` are over or a signal handler raises (Ctrl-C).
template <class Work>
void search_until(std::optional<double> seconds, Work&& work) {
  class Signals final : public Question {
   public:
    explicit Signals(Watch& watch) : watch_(watch) {}

   private:
    bool may_go_on() override { return watch_(0, 0); }

    Watch& watch_;
  };
  Watch watch{py::none(), py::none()};
  Signals signals(watch);
  Stop stop;
  if (seconds) stop.deadline = Deadline::after_seconds(*seconds);
  stop.question = &signals;
  watch.run([&](const auto&) { work(stop); });
}

void bind_distance(py::module_& module);
void bind_flat(py::module_& module);
void bind_graph(py::module_& module);
void bind_hnsw(py::module_& module);

}  // namespace akidb::bindings
