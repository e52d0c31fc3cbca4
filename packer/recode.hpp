#pragma once
// From the scheme a matrix has to one that another format holds: which steps lead there, what they cost, and
// the steps themselves. Every step is exact or says how much it rounds.

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "packer/weight_format.hpp"

namespace mpk {

/// What the small numbers of a matrix are, for the steps that depend on them.
struct MatrixFacts {
  int lowest_zero = 1 << 15, highest_zero = -1;  ///< of stored integer zero points
  bool zeros_are_middle = false;                 ///< all of them 2^(bits-1)
  /// Largest relative error of a scale, or of a floating-point zero point, rounded to that dtype.
  double f16_error = 0, bf16_error = 0;
  double reciprocal_error = 0;  ///< of the global scale's reciprocal, relative
  bool is_24 = true;            ///< no more than two of every four codes are not the zero

  void add(const QuantizedMatrix& q);
  /// Of another matrix of the same type.
  void add(const MatrixFacts& other);
};

/// Asked for by the user; nothing of it happens by itself.
struct RecodeOptions {
  bool widen = false;                ///< codes may be stored with more bits: 2, 3 -> 4 and asymmetric 4 -> 8
  bool pad = true;                   ///< zero weights up to the next size that the format takes
  std::optional<DType> scale_dtype;  ///< instead of the source's where the format leaves a choice
  std::optional<DType> activations = {};  ///< what the kernel multiplies with, where the layout depends on it
  DType preferred_scale_dtype = DType::F16;  ///< where scales must be rounded anyhow: the model's own
};

/// The way to a format.
struct Route {
  const WeightFormat* format;
  Geometry to;
  double scale_error = 0;               ///< largest relative error of a scale or float zero; 0: exact
  std::vector<std::string> notes = {};  ///< what is done to the numbers, in words

  bool exact() const { return scale_error == 0; }
  std::string exactness() const;  ///< "exact", or "rescaled (scales off by at most 1.9e-3)"
};

/// The first row of `rows` that can hold the matrix, by the way with the fewest steps; or why none can.
std::variant<Route, std::string> find_route(const Geometry& from, const MatrixFacts& facts,
                                            std::span<const WeightFormat* const> rows,
                                            const RecodeOptions& options);

/// Whether find_route would look at the facts for such a pair, which cost a pass over the tensors.
/// `lowest_zero` is that of the row which the matrix comes from.
bool needs_facts(int lowest_zero, const Scheme& from, std::span<const WeightFormat* const> rows);

/// Some columns of the matrix in their new form; columns that padding adds come with the last ones. Throws
/// Error{mismatch} if a number has no place in the new form, which the facts should have told.
QuantizedMatrix recode(const QuantizedMatrix& columns, const Geometry& from, const Geometry& to);

}  // namespace mpk
