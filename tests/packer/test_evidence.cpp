// What zero points and codes betray, on real files, on made weights and on noise.

#include <cstring>
#include <filesystem>

#include "packer/evidence.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

Scheme asymmetric(int bits, std::optional<int> group_size) {
  Scheme scheme{unsigned_integer(bits), std::nullopt, DType::F16};
  if (group_size) scheme.group_size = GroupSize{*group_size};
  scheme.zero_points = ZeroPoints::integer;
  return scheme;
}

/// Normal weights, rounded as quantizers do: the range of each group, 0 included, over all codes.
QuantizedMatrix quantized(const Scheme& scheme, K k, N n, unsigned with_seed, double mean = 0) {
  std::mt19937 random{with_seed};
  std::normal_distribution<double> weight{mean, 1.0};
  QuantizedMatrix q = make_matrix(scheme, k, n);
  q.scales.setOnes();
  for (std::size_t row = 0; row < q.g_idx.size(); ++row)
    q.g_idx[row] = static_cast<std::int32_t>(static_cast<std::int64_t>(row) / scheme.rows_per_group(k));
  std::ranges::shuffle(q.g_idx, random);
  const double top = scheme.type.max_code();
  for (Eigen::Index col = 0; col < n.value; ++col) {
    std::vector<double> weights(static_cast<std::size_t>(k.value));
    for (double& w : weights) w = weight(random);
    const auto group_of = [&](std::size_t row) {
      return scheme.act_order
                 ? q.g_idx[row]
                 : static_cast<std::int32_t>(static_cast<std::int64_t>(row) / scheme.rows_per_group(k));
    };
    std::vector<double> low(static_cast<std::size_t>(q.scales.rows())), high(low);
    for (std::size_t row = 0; row < weights.size(); ++row) {
      const auto group = static_cast<std::size_t>(group_of(row));
      low[group] = std::min(low[group], weights[row]);
      high[group] = std::max(high[group], weights[row]);
    }
    for (std::size_t group = 0; group < low.size(); ++group)
      q.zero_points(static_cast<Eigen::Index>(group), col) =
          static_cast<std::int16_t>(std::lround(-low[group] * top / (high[group] - low[group])));
    for (std::size_t row = 0; row < weights.size(); ++row) {
      const auto group = static_cast<std::size_t>(group_of(row));
      const double code = std::round(weights[row] * top / (high[group] - low[group])) +
                          q.zero_points(static_cast<Eigen::Index>(group), col);
      q.codes(static_cast<Eigen::Index>(row), col) = static_cast<std::uint8_t>(std::clamp(code, 0.0, top));
    }
  }
  return q;
}

/// What a file of version 1 holds, read as version 2.
QuantizedMatrix as_version_1(QuantizedMatrix q) {
  q.zero_points.array() -= 1;
  return q;
}

GptqVersionVerdict verdict_of(const std::vector<QuantizedMatrix>& modules) {
  GptqVersionEvidence evidence{modules.front().scheme.type.bits};
  for (const QuantizedMatrix& q : modules) evidence.add(q, 0);
  return evidence.verdict();
}

/// The quantized modules of a checkpoint in ../shared, or none.
std::vector<QuantizedMatrix> modules_of(const char* checkpoint, const Claims& claims) {
  const auto path = std::filesystem::path{MPK_SOURCE_DIR} / ".." / "shared" / "checkpoints" / checkpoint;
  std::vector<QuantizedMatrix> modules;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return modules;
  const Checkpoint file = Checkpoint::open(path);
  std::map<std::string, PartViews> parts;
  for (const std::string& name : file.names())
    if (const auto dot = name.rfind('.'); dot != std::string::npos)
      parts[name.substr(0, dot)].emplace(name.substr(dot + 1), file.tensor(name));
  for (const auto& [module, views] : parts)
    if (const auto stored = recognize(views, claims))
      modules.push_back(read_columns(*stored, views, {0, stored->geometry.n.value}));
  return modules;
}

const char* kShared = "no ../shared/checkpoints here";

}  // namespace

TEST_CASE("made weights tell GPTQ's version, of any width and grouping", "[evidence]") {
  const int bits = GENERATE(2, 3, 4, 8);
  const auto group_size = GENERATE(values<std::optional<int>>({32, 128, std::nullopt}));
  const bool act_order = GENERATE(false, true);
  if (act_order && !group_size) return;
  CAPTURE(bits, group_size.value_or(-1), act_order);
  Scheme scheme = asymmetric(bits, group_size);
  scheme.act_order = act_order;
  std::vector<QuantizedMatrix> modules;
  const unsigned count = bits == 8 ? 12 : 5;  // wider codes have wider errors
  for (unsigned i = 0; i < count; ++i) modules.push_back(quantized(scheme, K{512}, N{192}, seed() + i));
  const GptqVersionVerdict second = verdict_of(modules);
  INFO(second.explanation());
  for (QuantizedMatrix& q : modules) q = as_version_1(std::move(q));
  const GptqVersionVerdict first = verdict_of(modules);
  INFO(first.explanation());
  if (bits == 8) {  // may be undecided, never wrong
    CHECK(second.version != GptqVersion::v1);
    CHECK(first.version != GptqVersion::v2);
  } else {
    CHECK(second.version == GptqVersion::v2);
    CHECK(second.basis == GptqVersionVerdict::Basis::codes);
    CHECK(first.version == GptqVersion::v1);
    CHECK(first.basis == GptqVersionVerdict::Basis::codes);
    CHECK(first.offset == Approx(second.offset + 1));
  }
}

TEST_CASE("small layers are undecided alone and decide together", "[evidence]") {
  std::vector<QuantizedMatrix> modules;
  for (unsigned i = 0; i < 40; ++i) {
    modules.push_back(quantized(asymmetric(4, 32), K{64}, N{32}, seed() + i));
    if (i == 0) CHECK(verdict_of(modules).version == GptqVersion::undecided);
  }
  CHECK(verdict_of(modules).version == GptqVersion::v2);
}

TEST_CASE("weights off centre are undecided rather than wrong", "[evidence]") {
  const double mean = 0.17;  // of the standard deviation: half a step of 4 bits
  std::vector<QuantizedMatrix> modules;
  for (unsigned i = 0; i < 8; ++i)
    modules.push_back(quantized(asymmetric(4, 128), K{512}, N{128}, seed() + i, mean));
  const auto verdict = verdict_of(modules);
  INFO(verdict.explanation());
  CHECK(verdict.version == GptqVersion::undecided);
}

TEST_CASE("the range of the stored zeros speaks where the codes are noise", "[evidence]") {
  const auto noise = [](int lowest, int highest, unsigned with_seed) {
    QuantizedMatrix q = random_matrix(asymmetric(4, 32), K{512}, N{128}, with_seed);
    std::mt19937 random{with_seed};
    std::uniform_int_distribution<int> zero{lowest, highest};
    for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)
      q.zero_points.data()[i] = static_cast<std::int16_t>(zero(random));
    return q;
  };
  SECTION("all values: version 2") {
    const auto verdict = verdict_of({noise(0, 15, seed())});
    CHECK(verdict.version == GptqVersion::v2);
    CHECK(verdict.basis == GptqVersionVerdict::Basis::range);
    CHECK(verdict.unexplained > 0.9);
    CHECK(mentions(verdict.explanation(), "all ones"));
  }
  SECTION("all but the highest: version 1") {
    const auto verdict = verdict_of({noise(0, 14, seed())});
    CHECK(verdict.version == GptqVersion::v1);
    CHECK(verdict.basis == GptqVersionVerdict::Basis::range);
  }
  SECTION("a middle range says nothing") {
    CHECK(verdict_of({noise(4, 11, seed())}).version == GptqVersion::undecided);
    CHECK(verdict_of({noise(0, 8, seed())}).version == GptqVersion::undecided);
    CHECK(verdict_of({noise(1, 14, seed())}).version == GptqVersion::undecided);
  }
  SECTION("a lowest_zero takes zero points back to the fields") {
    GptqVersionEvidence evidence{4};
    evidence.add(noise(1, 15, seed()), 1);
    CHECK(evidence.verdict().version == GptqVersion::v1);
  }
  SECTION("AutoGPTQ's carry is no use of the highest value") {
    QuantizedMatrix q = noise(0, 13, seed());
    for (Eigen::Index group = 0; group < q.zero_points.rows(); ++group)  // ffffff22
      for (Eigen::Index nibble = 2; nibble < 8; ++nibble) q.zero_points(group, 40 + nibble) = 15;
    const auto verdict = verdict_of({q});
    CHECK(verdict.version == GptqVersion::undecided);
    CHECK(verdict.highest == 0);
    CHECK(verdict.carried == 6 * q.zero_points.rows());
    q.zero_points(3, 47) = 1;  // the field above is no carry's
    CHECK(verdict_of({q}).version == GptqVersion::v2);
    CHECK(verdict_of({q}).highest == 5);
  }
}

TEST_CASE("modules that say nothing are no evidence", "[evidence]") {
  GptqVersionEvidence evidence{4};
  CHECK(evidence.verdict().version == GptqVersion::undecided);
  evidence.add(random_matrix({kU4B8, GroupSize{32}, DType::F16}, K{64}, N{64}, seed()), 0);
  evidence.add(quantized(asymmetric(8, 32), K{64}, N{64}, seed()), 0);
  QuantizedMatrix empty_group = quantized(asymmetric(4, 32), K{64}, N{64}, seed());
  empty_group.scheme.act_order = true;
  empty_group.g_idx.assign(64, 0);
  empty_group.zero_points.setConstant(7);
  evidence.add(empty_group, 0);
  CHECK(evidence.verdict().pairs == 0);
  CHECK(evidence.verdict().version == GptqVersion::undecided);
  CHECK_FALSE(evidence.verdict().explanation().empty());
}

TEST_CASE("a standard error counts what pairs share once", "[evidence]") {
  std::mt19937 random{seed()};
  std::normal_distribution<double> normal;
  ClusteredMean independent, shared;
  for (int module = 0; module < 20; ++module) {
    MatrixD a(16, 64), b(16, 64);
    for (Eigen::Index i = 0; i < a.size(); ++i) a.data()[i] = normal(random);
    for (Eigen::Index col = 0; col < b.cols(); ++col) b.col(col).setConstant(normal(random));
    independent.add(a);
    shared.add(b);
  }
  const double pairs = 20 * 16 * 64, columns = 20 * 64;
  CHECK(independent.count() == 20 * 16 * 64);
  CHECK(independent.standard_error() > 0.8 / std::sqrt(pairs));
  CHECK(independent.standard_error() < 2.5 / std::sqrt(pairs));
  CHECK(shared.standard_error() > 0.8 / std::sqrt(columns));
  CHECK(shared.standard_error() < 2.5 / std::sqrt(columns));
  CHECK(ClusteredMean{}.mean() == 0);
}

TEST_CASE("a real file of version 2, and what it would be in version 1", "[evidence]") {
  std::vector<QuantizedMatrix> modules =
      modules_of("gptq-v2-asym-g32-bias", {.method = "gptq", .dialect = "gptq_v2"});
  if (modules.empty()) MPK_SKIP(kShared);
  const auto second = verdict_of(modules);
  INFO(second.explanation());
  CHECK(second.version == GptqVersion::v2);
  CHECK(second.basis == GptqVersionVerdict::Basis::codes);
  for (QuantizedMatrix& q : modules) q = as_version_1(std::move(q));
  const auto first = verdict_of(modules);
  INFO(first.explanation());
  CHECK(first.version == GptqVersion::v1);
  CHECK(first.basis == GptqVersionVerdict::Basis::codes);
}

// ---- AWQ's nibbles
// ------------------------------------------------------------------------------------------

namespace {

constexpr Eigen::Index kColumnOfNibble[] = {0, 2, 4, 6, 1, 3, 5, 7};

/// Columns as the gemm layout reads them if in truth they are in natural order.
template <class Matrix>
void misread(Matrix& matrix) {
  const Matrix truth = matrix;
  for (Eigen::Index col = 0; col < matrix.cols(); ++col)
    matrix.col(col / 8 * 8 + kColumnOfNibble[col % 8]) = truth.col(col);
}

NibbleOrder order_of(const std::vector<QuantizedMatrix>& modules) {
  NibbleOrderEvidence evidence;
  for (const QuantizedMatrix& q : modules) evidence.add(q);
  INFO(evidence.verdict().explanation());
  CHECK_FALSE(evidence.verdict().explanation().empty());
  return evidence.verdict().order;
}

void check_orders(const std::vector<QuantizedMatrix>& truth) {
  CHECK(order_of(truth) == NibbleOrder::same);
  std::vector<QuantizedMatrix> weights = truth, zeros = truth, both = truth;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    misread(weights[i].codes);
    misread(zeros[i].zero_points);
    misread(both[i].codes);
    misread(both[i].zero_points);
  }
  CHECK(order_of(weights) == NibbleOrder::natural_weights);
  CHECK(order_of(zeros) == NibbleOrder::natural_zeros);
  CHECK(order_of(both) == NibbleOrder::same);  // cannot be told from AWQ's
}

}  // namespace

TEST_CASE("weights and zeros in different nibble orders do not fit each other", "[evidence]") {
  std::vector<QuantizedMatrix> modules;
  for (unsigned i = 0; i < 3; ++i)
    modules.push_back(quantized(asymmetric(4, 128), K{512}, N{512}, seed() + i));
  check_orders(modules);
}

TEST_CASE("noise and tiny layers have no nibble order", "[evidence]") {
  CHECK(order_of({random_matrix(asymmetric(4, 32), K{512}, N{256}, seed())}) == NibbleOrder::undecided);
  CHECK(order_of({quantized(asymmetric(4, 32), K{64}, N{32}, seed())}) == NibbleOrder::undecided);
  CHECK(order_of({}) == NibbleOrder::undecided);
}

TEST_CASE("the zeros of real files have the order of their weights", "[evidence]") {
  const std::vector<QuantizedMatrix> modules =
      modules_of("gptq-v2-asym-g32-bias", {.method = "gptq", .dialect = "gptq_v2"});
  if (modules.empty()) MPK_SKIP(kShared);
  check_orders(modules);  // GPTQ's zeros after the same quantizer, read as if by AWQ
}

namespace {

std::uint32_t nibble(const TensorView& words, Eigen::Index row, Eigen::Index word, unsigned position) {
  std::uint32_t bits;
  std::memcpy(&bits, words.data.data() + (row * words.shape[1] + word) * 4, 4);
  return bits >> (4 * position) & 15u;
}

/// AWQ's gemm layout or compressed-tensors' packed one, element by element.
std::vector<QuantizedMatrix> plainly_read(const char* checkpoint, const char* weights, const char* zeros,
                                          int group_size) {
  const auto path = std::filesystem::path{MPK_SOURCE_DIR} / ".." / "shared" / "checkpoints" / checkpoint;
  std::vector<QuantizedMatrix> modules;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return modules;
  const Checkpoint file = Checkpoint::open(path);
  const bool awq = std::string{weights} == "qweight";
  constexpr unsigned kNibble[] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (const std::string& name : file.names()) {
    if (!name.ends_with(std::string{"."} + weights)) continue;
    const TensorView codes = file.tensor(name);
    const TensorView zero = file.tensor(name.substr(0, name.rfind('.') + 1) + zeros);
    const K k{awq ? codes.shape[0] : codes.shape[1] * 8};
    const N n{awq ? codes.shape[1] * 8 : codes.shape[0]};
    QuantizedMatrix q = make_matrix(asymmetric(4, group_size), k, n);
    for (Eigen::Index col = 0; col < n.value; ++col) {
      const auto low = static_cast<unsigned>(col % 8);
      for (Eigen::Index row = 0; row < k.value; ++row)
        q.codes(row, col) =
            static_cast<std::uint8_t>(awq ? nibble(codes, row, col / 8, kNibble[low])
                                          : nibble(codes, col, row / 8, static_cast<unsigned>(row % 8)));
      for (Eigen::Index group = 0; group < q.zero_points.rows(); ++group)
        q.zero_points(group, col) = static_cast<std::int16_t>(awq ? nibble(zero, group, col / 8, kNibble[low])
                                                                  : nibble(zero, col / 8, group, low));
    }
    modules.push_back(std::move(q));
  }
  return modules;
}

}  // namespace

TEST_CASE("zeros of other tools are no less plain", "[evidence]") {
  const bool awq = GENERATE(true, false);
  const std::vector<QuantizedMatrix> modules =
      awq ? plainly_read("awq-gemm-asym-g128", "qweight", "qzeros", 128)
          : plainly_read("ct-int4-asym-g32-bias", "weight_packed", "weight_zero_point", 32);
  if (modules.empty()) MPK_SKIP(kShared);
  check_orders(modules);
  const auto verdict = verdict_of(modules);  // both store zeros as version 2 does
  INFO(verdict.explanation());
  CHECK(verdict.version == GptqVersion::v2);
  CHECK(verdict.basis == GptqVersionVerdict::Basis::codes);
}
