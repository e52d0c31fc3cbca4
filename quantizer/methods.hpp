#pragma once
// A quantizer is a function from one linear layer to codes and scales; the methods are a table.

#include <optional>
#include <span>
#include <string>

#include "packer/format/quantized_matrix.hpp"
#include "quantizer/linalg/gemm.hpp"

namespace mpk {

enum class ActOrder {
  none,          ///< columns in storage order
  fixed_groups,  ///< "static": columns by falling Hessian diagonal, groups as in storage order, so no g_idx
                 ///< is needed
};
enum class Ranges {
  minmax,   ///< scale = max |w| / ((2^bits - 1) / 2)
  mse,      ///< the shrunken range with the least sum |w - w_hat|^2.4 per group
  hessian,  ///< the same, each weight's distance times its input's Hessian diagonal
};

struct RangeRule {
  const char* name;
  Ranges ranges;
};
inline constexpr RangeRule kRangeRules[]{// --ranges offers exactly these
                                         {"minmax", Ranges::minmax},
                                         {"mse", Ranges::mse},
                                         {"hessian", Ranges::hessian}};

struct QuantizerOptions {
  Scheme scheme;
  ActOrder act_order = ActOrder::fixed_groups;
  Ranges ranges = Ranges::mse;
  /// A group may take a negative scale: codes then reach further up than down. With stored zero points, which
  /// do the same and more, it means nothing.
  bool signed_scales = false;
  double damp = 0.01;      ///< added to the Hessian's diagonal, in units of its mean
  int descent_sweeps = 0;  ///< gptq: passes of coordinate descent over scales and codes afterwards
};

struct LinearLayer {
  ConstMatrixRef weight;  ///< (K, N)
  /// Sum of x x^T over the calibration tokens, (K, K); nullptr for methods without data.
  const MatrixF* hessian;
};

struct QuantizedLinear {
  QuantizedMatrix matrix;
  /// tr(D^T H D) / tr(W^T H W) with D = W - W_hat: the part of the output's energy that is lost on the
  /// calibration tokens. Without a Hessian, H = 1.
  double relative_loss = 0;
  double damp = 0;  ///< what was used in the end (a failed Cholesky raises it), 0 without a Hessian
};

QuantizedLinear rtn(const LinearLayer& layer, const QuantizerOptions& options);
QuantizedLinear gptq(const LinearLayer& layer, const QuantizerOptions& options);

struct Method {
  const char* name;
  const char* summary;
  QuantizedLinear (*run)(const LinearLayer&, const QuantizerOptions&);
  bool needs_hessian;
  bool scales_inputs;    ///< AWQ: scales are folded into what produces the inputs first (quantizer/awq.hpp)
  bool minimizes_error;  ///< of the output, so that a corrected target is within its reach
};
std::span<const Method> methods();  ///< --method offers exactly these

}  // namespace mpk
