#pragma once
// Which format becomes which, and what that costs: asked of the same functions that convert.

#include <string>
#include <vector>

namespace mpk {

/// What becomes of a kind of layer in a target.
enum class Outcome {
  exact,     ///< integers and scales carried over bit for bit
  if_24,     ///< exact if the codes are 2:4 already
  widened,   ///< exact with more bits per code, with --widen
  rescaled,  ///< codes exact, scales rounded to another dtype unless they happen to fit
  floats,    ///< dequantized, each weight rounded once
  refused,
};
const char* symbol_of(Outcome outcome);

struct FormatCell {
  std::string target;
  Outcome outcome = Outcome::refused;
  std::string detail;  ///< the steps, or why not
};

struct FormatRow {
  std::string format;  ///< row of weight_formats() that reads it
  std::string kind;    ///< "u4b8 group 128, F16 scales"
  bool writes = false;
  std::vector<FormatCell> cells;
};

/// Every readable format with the kinds of layers it usually holds, for a layer of 4096 x 4096.
std::vector<FormatRow> format_matrix();

/// As a table for the README.
std::string markdown(const std::vector<FormatRow>& rows);

}  // namespace mpk
