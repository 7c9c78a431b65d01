#include "calibration/seal.h"

#include <vector>

#include "calibration/calibrate.h"
#include "common/error.h"
#include "hnsw/serialize.h"

namespace akidb::calibration {

using quantization::CodeBits;

namespace {

constexpr std::size_t kComparedEfs[] = {48, 192};
constexpr double kRecallLossMax = 0.01;

class Sealing {
 public:
  Sealing(const hnsw::Graph& graph, std::size_t count, const hnsw::Vectors& vectors, unsigned threads,
          const Allocate& allocate, const std::function<void()>& pause)
      : graph_(graph),
        count_(count),
        vectors_(vectors),
        threads_(threads),
        allocate_(allocate),
        pause_(pause),
        order_(hnsw::locality_order(graph, count)),
        sample_(vectors, count, threads) {}

  void run(std::optional<CodeBits> wanted) {
    if (sample_.empty() && wanted.value_or(CodeBits::kNone) == CodeBits::kNone) return write_links_alone();
    if (vectors_.type == ElementType::kBinary) {
      if (wanted.value_or(CodeBits::kNone) != CodeBits::kNone) throw_invalid("binary vectors have no codes");
      wanted = CodeBits::kNone;
    }
    write(wanted.value_or(CodeBits::kFour));
    if (!wanted && !serves() && is_float(vectors_.type)) write(CodeBits::kEight);
    if (!wanted && !serves()) write(CodeBits::kNone);
    hnsw::set_calibration(bytes_, sample_.measure(view(), codes(), pause_));
  }

 private:
  void write_links_alone() {
    hnsw::serialize(graph_, count_, vectors_.metric, vectors_.dim, allocate_(hnsw::serialized_bytes(graph_, count_)));
  }

  void write(CodeBits bits) {
    pause_();
    bytes_ = allocate_(hnsw::sealed_bytes(graph_, count_, vectors_.dim, bits));
    hnsw::seal(graph_, order_, vectors_, bits, threads_, bytes_);
    info_ = hnsw::read_header(bytes_, hnsw::sealed_bytes(graph_, count_, vectors_.dim, bits));
    codes_ = hnsw::open_codes(bytes_, info_);
    sample_.use_order(hnsw::open_order(bytes_, info_));
  }

  hnsw::GraphView view() const { return hnsw::open(bytes_, info_); }
  const quantization::Codes* codes() const { return codes_ ? &codes_.value() : nullptr; }

  bool serves() const {
    for (const std::size_t ef : kComparedEfs) {
      pause_();
      if (sample_.recall(view(), codes(), ef) < sample_.recall(view(), nullptr, ef) - kRecallLossMax) return false;
    }
    return true;
  }

  const hnsw::Graph& graph_;
  std::size_t count_;
  const hnsw::Vectors& vectors_;
  unsigned threads_;
  const Allocate& allocate_;
  const std::function<void()>& pause_;
  const std::vector<hnsw::Node> order_;
  Sample sample_;
  std::uint8_t* bytes_ = nullptr;
  hnsw::GraphInfo info_;
  std::optional<quantization::Codes> codes_;
};

}  // namespace

void seal(const hnsw::Graph& graph, std::size_t count, const hnsw::Vectors& vectors, std::optional<CodeBits> bits,
          unsigned threads, const Allocate& allocate, const std::function<void()>& pause) {
  Sealing(graph, count, vectors, threads, allocate, pause).run(bits);
}

}  // namespace akidb::calibration
