// How much a search of a sealed graph finds at which ef, as measured when it was sealed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace akidb::hnsw {

struct Calibration {
  static constexpr std::array<std::uint16_t, 12> kEfs = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
  static constexpr std::array<std::uint16_t, 2> kKs = {10, 100};
  using Curve = std::array<float, kEfs.size()>;  // at kEfs; recall never falls along it

  // Vectors below which a sample would be too small, and comparing all is fast anyway.
  static constexpr std::size_t kCountMin = 1000;

  std::uint32_t queries = 0;  // 0: too few vectors to measure
  std::array<Curve, kKs.size()> recall{};
  std::array<Curve, kKs.size()> deviation{};  // standard errors of `recall`

  // The least ef at which recall@k, less its standard error, reaches `target`; between the measured ones by the
  // logarithm of ef, unless recall leaps there. Where the largest measured one does not reach it, four times that.
  std::size_t ef_for(std::size_t k, double target) const;
};

}  // namespace akidb::hnsw
