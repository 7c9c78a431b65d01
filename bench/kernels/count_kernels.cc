// Calls one kernel a number of times, for scripts/count_instructions.py, which counts what an emulator executes.
//   count_kernels                                lists the kernels: "<level> <operation>", a line each
//   count_kernels <level> <operation> <dim> <calls>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "distance/distance.h"

using namespace akidb;

namespace {

constexpr std::size_t kDimMax = 4096;

struct Arguments {
  std::vector<float> floats = std::vector<float>(kDimMax, 0.5F);
  std::vector<std::int8_t> values = std::vector<std::int8_t>(kDimMax, 3);
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(kDimMax, 0x5A);
  const float* float_rows[4] = {floats.data(), floats.data(), floats.data(), floats.data()};
  const std::uint8_t* code_rows[4] = {codes.data(), codes.data(), codes.data(), codes.data()};
  float float_out[4] = {};
  std::int32_t int_out[4] = {};
};

struct Operation {
  std::string_view name;
  void (*call)(const Kernels& kernels, std::size_t dim, Arguments& with);
};

constexpr Operation kOperations[] = {
    {"l2", [](const Kernels& k, std::size_t dim, Arguments& a) { k.l2(a.floats.data(), a.floats.data(), dim); }},
    {"dot", [](const Kernels& k, std::size_t dim, Arguments& a) { k.dot(a.floats.data(), a.floats.data(), dim); }},
    {"l2_batch4", [](const Kernels& k, std::size_t dim,
                     Arguments& a) { k.l2_batch4(a.floats.data(), a.float_rows, dim, a.float_out); }},
    {"dot_batch4", [](const Kernels& k, std::size_t dim,
                      Arguments& a) { k.dot_batch4(a.floats.data(), a.float_rows, dim, a.float_out); }},
    {"dot_u8", [](const Kernels& k, std::size_t dim, Arguments& a) { k.dot_u8(a.values.data(), a.codes.data(), dim); }},
    {"dot_u4", [](const Kernels& k, std::size_t dim, Arguments& a) { k.dot_u4(a.values.data(), a.codes.data(), dim); }},
    {"dot_u8_batch4", [](const Kernels& k, std::size_t dim,
                         Arguments& a) { k.dot_u8_batch4(a.values.data(), a.code_rows, dim, a.int_out); }},
    {"dot_u4_batch4", [](const Kernels& k, std::size_t dim,
                         Arguments& a) { k.dot_u4_batch4(a.values.data(), a.code_rows, dim, a.int_out); }},
};

void list() {
  for (const SimdLevel level : kSimdLevels) {
    if (kernels_at(level) == nullptr) continue;
    for (const Operation& operation : kOperations) {
      std::printf("%s %.*s\n", to_string(level), static_cast<int>(operation.name.size()), operation.name.data());
    }
  }
}

int run(std::string_view level_name, std::string_view name, std::size_t dim, std::size_t calls) {
  static Arguments arguments;
  for (const SimdLevel level : kSimdLevels) {
    const Kernels* kernels = kernels_at(level);
    if (kernels == nullptr || level_name != to_string(level) || dim > kDimMax) continue;
    for (const Operation& operation : kOperations) {
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
