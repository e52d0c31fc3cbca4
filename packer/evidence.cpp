#include "packer/evidence.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace mpk {
namespace {

// Both tests use one fact: weights are centred near zero, so the mean code of a (group, column) is its zero
// point plus a small error e = mean(weight) / scale. With R rows and weights of s steps standard deviation e
// has s / sqrt(R): 0.2 steps for 4 bits and 128 rows. Zero points of a file vary by a step or more.
//
// Are the zeros those of these codes at all? If they were unrelated, var(mean code - zero) would be
// var(mean code) + var(zero), which is what shuffling the pairs gives in the mean. kRelated is the part of it
// that may be left: 1/2 is a correlation of about 1/2, ten standard errors away from none with the least
// number of pairs, 400.
constexpr double kRelated = 0.5;
constexpr std::int64_t kLeastPairs = 400;

// Where does the difference lie? At 0 in version 2, at 1 in version 1. A mean weight that is not 0 moves it:
// it may by kDrift steps, 0.09 standard deviations of 4-bit weights; what lies between is undecided. (All
// weights of a checkpoint 0.35 standard deviations off centre would look like the other version; layers of 8
// bits, whose steps are small, say nothing if they are off centre by 0.005.) The middle must be kErrors
// standard errors away: one-sided 3e-7, if errors are normal. Pairs of a column share the column's mean
// weight, pairs of a group the inputs', pairs of a module the module's; standard_error() takes the worst, so
// that a drift that many pairs share counts once.
constexpr double kDrift = 0.25, kErrors = 5;

// If the codes say nothing: zero points lie in 0 .. 2^b - 1 and, since weights and their negatives are
// equally likely, at z and 2^b - 1 - z equally often. Version 2 then stores 2^b - 1 as often as 0; version 1
// never stores it. kEnds zeros stored as 0 without one as 2^b - 1 have the probability 2^-kEnds in version 2;
// as many at 2^b - 2 say that the upper end is used at all, where weights are not symmetric.
constexpr std::int64_t kEnds = 20;

constexpr Eigen::Index kMaxColumns = 256;

double variance(const MatrixD& values) {
  return (values.array() - values.mean()).square().mean();
}

/// Columns to look at: all, or runs of 8 (a word of AWQ's) spread evenly.
std::vector<Eigen::Index> sample(Eigen::Index count) {
  std::vector<Eigen::Index> columns;
  if (count <= kMaxColumns) {
    for (Eigen::Index i = 0; i < count; ++i) columns.push_back(i);
    return columns;
  }
  constexpr Eigen::Index kRun = 8, kRuns = kMaxColumns / kRun;
  for (Eigen::Index run = 0; run < kRuns; ++run)
    for (Eigen::Index i = 0; i < kRun; ++i) columns.push_back(count / kRun * run / kRuns * kRun + i);
  return columns;
}

/// (groups, columns): the mean code of every group; empty if a group has no row.
MatrixD mean_codes(const QuantizedMatrix& q, const std::vector<Eigen::Index>& columns) {
  const Eigen::Index groups = q.scales.rows();
  const auto rows = q.scheme.rows_per_group(q.k());
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(q.codes.rows()));
  for (std::size_t row = 0; row < group_of.size(); ++row)
    group_of[row] =
        q.scheme.act_order ? q.g_idx[row] : static_cast<std::int32_t>(static_cast<std::int64_t>(row) / rows);
  Eigen::VectorXd size = Eigen::VectorXd::Zero(groups);
  for (const std::int32_t group : group_of) size(group) += 1;
  if (groups == 0 || size.minCoeff() == 0) return {};

  MatrixD means(groups, static_cast<Eigen::Index>(columns.size()));
  std::vector<std::uint32_t> sums(static_cast<std::size_t>(groups));
  for (Eigen::Index i = 0; i < means.cols(); ++i) {
    std::ranges::fill(sums, 0u);
    const std::uint8_t* codes = q.codes.data() + columns[static_cast<std::size_t>(i)] * q.codes.rows();
    for (std::size_t row = 0; row < group_of.size(); ++row)
      sums[static_cast<std::size_t>(group_of[row])] += codes[row];
    for (Eigen::Index group = 0; group < groups; ++group)
      means(group, i) = sums[static_cast<std::size_t>(group)] / size(group);
  }
  return means;
}

/// n units estimate a variance; Student's t with n - 1 degrees of freedom is wider than the normal
/// distribution by this.
double student(std::int64_t n) {
  const auto count = static_cast<double>(n);
  return std::sqrt((count - 1) / (count - 3));
}

}  // namespace

void ClusteredMean::Clusters::add(double size, double sum) {
  size_squared += size * size;
  size_times_sum += size * sum;
  sum_squared += sum * sum;
  ++count;
}

/// Of the mean sum / total: the clusters' deviations sum_c - size_c * mean are independent and add up to 0.
double ClusteredMean::Clusters::standard_error(double total, double sum) const {
  if (count < 4) return std::numeric_limits<double>::infinity();
  const double mean = sum / total;
  const double squares = sum_squared - 2 * mean * size_times_sum + mean * mean * size_squared;
  const auto n = static_cast<double>(count);
  return std::sqrt(std::max(squares, 0.0) * n / (n - 1)) / total * student(count);
}

void ClusteredMean::add(const MatrixD& values) {
  if (values.size() == 0) return;
  for (Eigen::Index col = 0; col < values.cols(); ++col)
    columns_.add(static_cast<double>(values.rows()), values.col(col).sum());
  for (Eigen::Index row = 0; row < values.rows(); ++row)
    groups_.add(static_cast<double>(values.cols()), values.row(row).sum());
  modules_.add(static_cast<double>(values.size()), values.sum());
  sum_ += values.sum();
  count_ += values.size();
}

double ClusteredMean::mean() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

double ClusteredMean::standard_error() const {
  const auto total = static_cast<double>(count_);
  const double modules = modules_.count < 4 ? 0 : modules_.standard_error(total, sum_);
  return std::max({columns_.standard_error(total, sum_), groups_.standard_error(total, sum_), modules});
}

// ---- GPTQ's version
// -----------------------------------------------------------------------------------------

void GptqVersionEvidence::add(const QuantizedMatrix& q, int lowest_zero) {
  if (q.scheme.zero_points != ZeroPoints::integer || q.scheme.type.bits != bits_) return;
  const int ones = (1 << bits_) - 1;
  const auto stored = [&](Eigen::Index group, Eigen::Index col) {
    return q.zero_points(group, col) - lowest_zero;
  };
  // Fields of a word that lie above one of all ones, and whole inside of it, where AutoGPTQ's carry would
  // show.
  const auto next_in_word = [&](Eigen::Index col) {
    const std::int64_t at = q.first_column + col;
    return col + 1 < q.zero_points.cols() && at * bits_ / 32 == ((at + 2) * bits_ - 1) / 32;
  };
  for (Eigen::Index group = 0; group < q.zero_points.rows(); ++group)
    for (Eigen::Index col = q.zero_points.cols() - 1, above = 0; col >= 0; --col) {
      const int field = stored(group, col);
      above = next_in_word(col) ? above : 1;  // 1: only ones above, or nothing
      ++fields_;
      lowest_ += field == 0;
      next_to_highest_ += field == ones - 1;
      if (field == ones) ++(above ? carried_ : highest_);
      above = above && field == ones;
    }

  const std::vector<Eigen::Index> columns = sample(q.codes.cols());
  const MatrixD means = mean_codes(q, columns);
  if (means.size() == 0) return;
  MatrixD zeros(means.rows(), means.cols());
  for (Eigen::Index col = 0; col < zeros.cols(); ++col)
    for (Eigen::Index group = 0; group < zeros.rows(); ++group)
      zeros(group, col) = stored(group, columns[static_cast<std::size_t>(col)]);
  const MatrixD difference = means - zeros;
  offset_.add(difference);
  const auto pairs = static_cast<double>(difference.size());
  unexplained_ += variance(difference) * pairs;
  unrelated_ += (variance(means) + variance(zeros)) * pairs;
}

GptqVersionVerdict GptqVersionEvidence::verdict() const {
  GptqVersionVerdict out;
  out.pairs = offset_.count();
  out.offset = offset_.mean();
  out.standard_error = offset_.standard_error();
  out.unexplained = unrelated_ > 0 ? unexplained_ / unrelated_ : 1;
  out.fields = fields_;
  out.lowest = lowest_;
  out.next_to_highest = next_to_highest_;
  out.highest = highest_;
  out.carried = carried_;
  if (out.pairs >= kLeastPairs && out.unexplained < kRelated) {
    const bool is_far_from_middle = std::abs(out.offset - 0.5) >= kErrors * out.standard_error;
    if (is_far_from_middle && std::abs(out.offset) <= kDrift) out.version = GptqVersion::v2;
    if (is_far_from_middle && std::abs(out.offset - 1) <= kDrift) out.version = GptqVersion::v1;
    if (out.version != GptqVersion::undecided) out.basis = GptqVersionVerdict::Basis::codes;
  }
  if (out.version == GptqVersion::undecided) {
    if (highest_ > 0)
      out.version = GptqVersion::v2;
    else if (std::min(lowest_, next_to_highest_) >= kEnds)
      out.version = GptqVersion::v1;
    if (out.version != GptqVersion::undecided) out.basis = GptqVersionVerdict::Basis::range;
  }
  return out;
}

std::string GptqVersionVerdict::explanation() const {
  const char* name = version == GptqVersion::v1   ? "version 1"
                     : version == GptqVersion::v2 ? "version 2"
                                                  : "undecided";
  if (basis == Basis::range)
    return version == GptqVersion::v2
               ? fmt::format(
                     "{}: {} of {} zero points are stored as all ones, which version 1 has no use for", name,
                     highest, fields)
               : fmt::format(
                     "{}: {} of {} zero points are stored as 0, {} as the value next to the highest, "
                     "none as the highest",
                     name, lowest, fields, next_to_highest);
  return fmt::format(
      "{}: mean codes exceed the stored zero points by {:.3f} +- {:.3f} (0 in version 2, 1 in version 1) "
      "over "
      "{} groups of columns; {:.0f} % of the variance is unexplained",
      name, offset, standard_error, pairs, 100 * unexplained);
}

// ---- AWQ's nibbles
// ------------------------------------------------------------------------------------------

namespace {

constexpr int kWord = 8;                                             // columns
constexpr std::array<int, kWord> kNibbleOf{0, 4, 1, 5, 2, 6, 3, 7};  // AWQ: column -> nibble
constexpr std::array<int, kWord> kColumnOf{0, 2, 4, 6, 1, 3, 5, 7};  // and back
constexpr const char* kOrderNames[] = {"the same order", "natural weights", "natural zeros"};

}  // namespace

// Columns here are named as AWQ's order has them. If the weights are in natural order in truth, column n of
// the words stands in nibble n, which was read as column kColumnOf[n]; its zero was read right, as column n.
// If the zeros are, it is the other way round. Both in natural order renames the columns of both alike, and
// no residual changes: only a mismatch shows.
void NibbleOrderEvidence::add(const QuantizedMatrix& q) {
  if (q.scheme.zero_points != ZeroPoints::integer || q.scheme.type.bits != 4) return;
  const Eigen::Index whole = q.codes.cols() / kWord * kWord;
  if (whole == 0) return;
  const std::vector<Eigen::Index> columns = sample(whole);
  const MatrixD means = mean_codes(q, columns);
  if (means.size() == 0) return;
  MatrixD zeros(means.rows(), means.cols());
  for (Eigen::Index col = 0; col < zeros.cols(); ++col)
    for (Eigen::Index group = 0; group < zeros.rows(); ++group)
      zeros(group, col) = q.zero_points(group, columns[static_cast<std::size_t>(col)]);

  // Columns 0 and 7 of a word are where they are in either order and would only dilute the difference.
  constexpr int kMoved = kWord - 2;
  const Eigen::Index words = means.cols() / kWord;
  MatrixD squares[3];
  for (int order = 0; order < 3; ++order) {
    MatrixD residual(means.rows(), words * kMoved);
    for (Eigen::Index word = 0; word < words; ++word)
      for (int n = 1; n <= kMoved; ++n) {
        const auto i = static_cast<std::size_t>(n);
        const Eigen::Index at = word * kWord, mean_at = at + (order == 1 ? kColumnOf[i] : n),
                           zero_at = at + (order == 2 ? kColumnOf[i] : n);
        residual.col(word * kMoved + n - 1) = means.col(mean_at) - zeros.col(zero_at);
      }
    squares[order] = (residual.array() - residual.mean()).square();
    unexplained_[order] += squares[order].sum();
  }
  unrelated_ += (variance(means) + variance(zeros)) * static_cast<double>(squares[0].size());
  for (int a = 0; a < 3; ++a)
    for (int b = 0; b < 3; ++b)
      if (a != b) excess_[a][b].add(squares[a] - squares[b]);
}

NibbleOrderVerdict NibbleOrderEvidence::verdict() const {
  NibbleOrderVerdict out;
  out.pairs = excess_[0][1].count();
  if (unrelated_ > 0)
    for (int order = 0; order < 3; ++order) out.unexplained[order] = unexplained_[order] / unrelated_;
  const auto best = std::min_element(out.unexplained, out.unexplained + 3) - out.unexplained;
  if (out.pairs < kLeastPairs || out.unexplained[best] >= kRelated) return out;
  for (int other = 0; other < 3; ++other)
    if (other != best) {
      const ClusteredMean& excess = excess_[other][best];
      if (!(excess.mean() >= kErrors * excess.standard_error())) return out;
    }
  constexpr NibbleOrder kOrders[] = {NibbleOrder::same, NibbleOrder::natural_weights,
                                     NibbleOrder::natural_zeros};
  out.order = kOrders[best];
  return out;
}

std::string NibbleOrderVerdict::explanation() const {
  std::string text = order == NibbleOrder::undecided ? "undecided"
                     : order == NibbleOrder::same    ? "weights and zeros have the same nibble order"
                     : order == NibbleOrder::natural_weights
                         ? "the weights' nibbles are in natural order, the zeros' in AWQ's"
                         : "the zeros' nibbles are in natural order, the weights' in AWQ's";
  for (int i = 0; i < 3; ++i)
    text += fmt::format("{} {:.0f} % with {}", i == 0 ? ": variance unexplained" : ",", 100 * unexplained[i],
                        kOrderNames[i]);
  return text + fmt::format(", {} groups of columns", pairs);
}

}  // namespace mpk
