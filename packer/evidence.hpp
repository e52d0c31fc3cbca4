#pragma once
// What codes and stored zero points tell of conventions that a configuration may get wrong, and that no
// header shows: GPTQ's version, and the order of the nibbles in AWQ's words.

#include <cstdint>
#include <string>
#include <vector>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// Mean and spread of a number that many (group, column) pairs of several modules give, with a standard error
/// that does not take the pairs for independent.
class ClusteredMean {
 public:
  /// One value per (group, column): a module's, at once.
  void add(const MatrixD& values);

  std::int64_t count() const { return count_; }
  double mean() const;
  /// The largest of the standard errors that follow from taking columns, groups or whole modules as the
  /// independent units; infinite with fewer than four columns or groups.
  double standard_error() const;

 private:
  /// Sums over the units of one kind.
  struct Clusters {
    double size_squared = 0, size_times_sum = 0, sum_squared = 0;
    std::int64_t count = 0;
    void add(double size, double sum);
    double standard_error(double total, double sum) const;
  };
  double sum_ = 0;
  std::int64_t count_ = 0;
  Clusters columns_, groups_, modules_;
};

enum class GptqVersion { undecided, v1, v2 };

struct GptqVersionVerdict {
  GptqVersion version = GptqVersion::undecided;
  enum class Basis { none, codes, range } basis = Basis::none;
  std::int64_t pairs = 0;     ///< (group, column) pairs whose codes were looked at
  double offset = 0;          ///< mean of (mean code - stored zero): 0 in version 2, 1 in version 1
  double standard_error = 0;  ///< of `offset`
  double unexplained = 1;     ///< variance of that difference, as a part of what unrelated zeros would leave
  std::int64_t fields = 0;    ///< stored zero points
  std::int64_t lowest = 0, next_to_highest = 0, highest = 0;  ///< how many are 0, 2^b - 2, 2^b - 1
  /// Fields of all ones with nothing but ones above them in their word: what AutoGPTQ made of a zero point 0
  /// in version 1 (FORMAT.md, "gptq"). They are not counted as `highest`.
  std::int64_t carried = 0;

  /// "version 2: the mean code of a group exceeds the stored zero point by 0.01 +- 0.02 (1: version 1) ...".
  std::string explanation() const;
};

/// Of the modules with asymmetric zero points and one number of bits, together: each may be too small to
/// tell.
class GptqVersionEvidence {
 public:
  explicit GptqVersionEvidence(int bits) : bits_{bits} {}

  /// Some columns of a module as gptq or gptq-v2 read them; `lowest_zero` is the row's, 1 or 0, and takes the
  /// zero points back to the fields that are stored. Looks at the codes of no more than 256 columns.
  void add(const QuantizedMatrix& q, int lowest_zero);

  GptqVersionVerdict verdict() const;

 private:
  int bits_;
  ClusteredMean offset_;
  double unexplained_ = 0, unrelated_ = 0;  ///< sums over modules: variance times pairs
  std::int64_t fields_ = 0, lowest_ = 0, next_to_highest_ = 0, highest_ = 0, carried_ = 0;
};

enum class NibbleOrder {
  undecided,
  same,             ///< of weights and zeros: both AWQ's or both natural, which these data cannot tell apart
  natural_weights,  ///< weights in natural order, zeros in AWQ's
  natural_zeros,    ///< the other way round
};

struct NibbleOrderVerdict {
  NibbleOrder order = NibbleOrder::undecided;
  std::int64_t pairs = 0;  ///< (group, column) pairs
  /// Variance of (mean code - zero) if the order were so, as a part of what unrelated zeros would leave:
  /// same, natural_weights, natural_zeros.
  double unexplained[3] = {1, 1, 1};

  std::string explanation() const;
};

/// Of the AWQ gemm modules of a checkpoint, together.
class NibbleOrderEvidence {
 public:
  /// A module, or some columns of one that begin at a multiple of 8, as the gemm layout reads them: 4 bit,
  /// both tensors in AWQ's order. Looks at no more than 256 columns.
  void add(const QuantizedMatrix& q);

  NibbleOrderVerdict verdict() const;

 private:
  double unexplained_[3] = {}, unrelated_ = 0;
  ClusteredMean excess_[3][3];  ///< [a][b]: squared residual of order a less that of order b
};

}  // namespace mpk
