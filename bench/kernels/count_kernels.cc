// Calls one kernel a number of times, for scripts/count_instructions.py, which counts what an emulator executes.
//   count_kernels                                lists the kernels: "<level> <operation>", a line each
//   count_kernels <level> <operation> <dim> <calls>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "distance/distance.h"

using namespace akidb;

namespace {

constexpr std::size_t kDimMax = 4096;

struct Arguments {
  std::vector<std::uint8_t> vector = std::vector<std::uint8_t>(vector_bytes(ElementType::kFloat32, kDimMax), 0x3A);
  std::vector<std::int8_t> values = std::vector<std::int8_t>(kDimMax, 3);
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(kDimMax, 0x5A);
  std::vector<float> floats = std::vector<float>(kPanelDim * 64, 0.5F);
  std::vector<float> sums = std::vector<float>(32 * 64);
  const void* vectors[kTileSide] = {vector.data(), vector.data(), vector.data(), vector.data()};
  const std::uint8_t* code_rows[4] = {codes.data(), codes.data(), codes.data(), codes.data()};
  float float_out[kTileSide * kTileSide] = {};
  std::int32_t int_out[4] = {};
  std::vector<std::uint8_t> panel = std::vector<std::uint8_t>(kCodePanel * kDimMax, 0x5A);
  const std::int8_t* queries[kCodePanelQueries] = {values.data(), values.data(), values.data(), values.data(),
                                                   values.data(), values.data(), values.data(), values.data()};
  std::int32_t panel_out[kCodePanelQueries * kCodePanel] = {};
};

struct Operation {
  std::string name;
  std::function<void(const Kernels& kernels, std::size_t dim, Arguments& with)> call;
};

// What a kernel over vectors can be asked for, by names that end in the type but for float32.
void add_vectors(std::vector<Operation>& out, const std::string& type_word, ElementType type, Metric metric) {
  const std::string name = metric == Metric::kL2 ? "l2" : "dot";
  out.push_back({name + type_word, [type, metric](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.of(type, metric).single(a.vector.data(), a.vector.data(), dim);
                 }});
  out.push_back({name + "_batch4" + type_word, [type, metric](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.of(type, metric).batch4(a.vector.data(), a.vectors, dim, a.float_out);
                 }});
  out.push_back({name + "_tile" + type_word, [type, metric](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.of(type, metric).tile(a.vectors, a.vectors, dim, a.float_out);
                 }});
}

std::vector<Operation> operations() {
  std::vector<Operation> out;
  constexpr const char* kTypeWords[kElementTypes] = {"", "_float16", "_bfloat16", "_int8", "_uint8", "_binary"};
  for (std::size_t type = 0; type < kElementTypes; ++type) {
    for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      if (static_cast<ElementType>(type) == ElementType::kBinary && metric != Metric::kL2) continue;
      add_vectors(out, kTypeWords[type], static_cast<ElementType>(type), metric);
    }
  }
  out.push_back({"panel", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   for (std::size_t i = 0; i < dim; i += kPanelDim)
                     k.panels.add(a.floats.data(), a.floats.data(), std::min(kPanelDim, dim - i), a.sums.data());
                 }});
  out.push_back({"dot_u8", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.dot_u8(a.values.data(), a.codes.data(), dim);
                 }});
  out.push_back({"dot_u4", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.dot_u4(a.values.data(), a.codes.data(), dim);
                 }});
  out.push_back({"dot_u8_batch4", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.dot_u8_batch4(a.values.data(), a.code_rows, dim, a.int_out);
                 }});
  out.push_back({"dot_u4_batch4", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.dot_u4_batch4(a.values.data(), a.code_rows, dim, a.int_out);
                 }});
  out.push_back({"dot_u8_panel", [](const Kernels& k, std::size_t dim, Arguments& a) {
                   k.dot_u8_panel(a.panel.data(), a.queries, dim, a.panel_out);
                 }});
  return out;
}

void list() {
  for (const SimdLevel level : kSimdLevels) {
    if (kernels_at(level) == nullptr) continue;
    for (const Operation& operation : operations()) std::printf("%s %s\n", to_string(level), operation.name.c_str());
  }
}

int run(std::string_view level_name, std::string_view name, std::size_t dim, std::size_t calls) {
  static Arguments arguments;
  for (const SimdLevel level : kSimdLevels) {
    const Kernels* kernels = kernels_at(level);
    if (kernels == nullptr || level_name != to_string(level) || dim > kDimMax) continue;
    for (const Operation& operation : operations()) {
      if (operation.name != name) continue;
      for (std::size_t i = 0; i < calls; ++i) operation.call(*kernels, dim, arguments);
      return 0;
    }
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): out of memory may end it
  if (argc == 1) {
    list();
    return 0;
  }
  if (argc == 5) return run(argv[1], argv[2], std::strtoul(argv[3], nullptr, 10), std::strtoul(argv[4], nullptr, 10));
  return 1;
}
