#pragma once
// The ways to store a quantized matrix, as a table. FORMAT.md states every byte of every row.
// A new way is one file in formats/ and one row of the table in weight_format.cpp.

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// How the linear layers of a whole checkpoint are stored, as its config.json has to tell.
struct CheckpointSchemes {
  Scheme common;                             ///< of every quantized module not named below
  std::map<std::string, Scheme> exceptions;  ///< module -> scheme; entries equal to `common` say nothing new
  std::set<std::string> unquantized;         ///< linear modules that keep their float weight
};

/// What the headers of a module's tensors tell. One group reads as group_size nullopt.
struct Geometry {
  Scheme scheme;
  K k;
  N n;
};

struct WeightFormat {
  const char* name;                        ///< --format offers exactly these
  const char* summary;                     ///< one line for --help
  std::vector<std::string_view> suffixes;  ///< the tensors of a module, in the order of `specs` and `encode`

  /// Why a K x N matrix cannot be stored so, with the numbers and a way out; nullopt: it can.
  std::optional<std::string> (*refusal)(const Scheme&, K, N);
  /// The tensors `encode` will make. Only for matrices without refusal.
  std::vector<PartSpec> (*specs)(const Scheme&, K, N);
  /// Throws Error{unsupported} with the refusal; Error{bad_input} for codes above the type's maximum and
  /// scales that are not finite or not representable in scheme.scale_dtype.
  std::vector<Part> (*encode)(const QuantizedMatrix&);
  /// The inverse, bit for bit. Throws Error{unsupported} with the refusal, Error{bad_input} that names the
  /// suffix if the tensors are anything that `encode` cannot have made.
  QuantizedMatrix (*decode)(const PartViews&, const Scheme&, K, N);
  /// From dtypes and shapes alone. Throws Error{bad_input} if they contradict each other.
  Geometry (*geometry)(const PartViews&);
  /// The "quantization_config" of config.json. Throws Error{bad_input} if an exception is unquantized too.
  nlohmann::json (*quantization_config)(const CheckpointSchemes&);
};

std::span<const WeightFormat> weight_formats();

/// nullptr: no such row.
const WeightFormat* weight_format_named(std::string_view name);

struct StoredMatrix {
  const WeightFormat* format;
  Geometry geometry;
};

/// Which row wrote the tensors of one module ("bias" aside): the one with exactly these suffixes. nullopt:
/// none of ours, for instance a float weight. Looks at dtypes, shapes and sizes, never at the data. Throws
/// Error{bad_input} if these contradict each other, Error{unsupported} if the row refuses such a matrix.
std::optional<StoredMatrix> recognize(const PartViews& parts);

}  // namespace mpk
