#pragma once
// One function per file in this folder, and what those files share.

#include "packer/weight_format.hpp"

namespace mpk::formats {

WeightFormat marlin();
WeightFormat gptq();
WeightFormat marlin_original();

/// What no format here can store: sizes below 1 or above 2^31 - 1, a type other than u4b8 and u8b128, scales
/// other than F16 and BF16, a group_size that does not divide K.
std::optional<std::string> common_refusal(const Scheme&, K, N);

/// Throws Error{unsupported} with what `refusal` says, if anything.
void refuse(std::optional<std::string> (*refusal)(const Scheme&, K, N), const Scheme&, K, N);

/// One zeroed tensor per spec.
std::vector<Part> allocate(const std::vector<PartSpec>& specs);

/// -1 or the group size, as configuration files spell it.
std::int64_t group_size_number(const Scheme&);

/// Throws Error{bad_input} unless the matrix has the shapes its scheme asks for.
void require_consistent(const QuantizedMatrix&);

/// The part's two extents, both positive. Throws Error{bad_input} otherwise.
struct Extents {
  std::int64_t rows, cols;
};
Extents matrix_extents(const PartViews&, std::string_view suffix);

/// bits, groups and the scales' dtype as a scheme. Throws Error{bad_input} if no scheme here has them.
Scheme scheme_from(std::int64_t bits, K, Groups, DType scale_dtype);

/// The configuration that GPTQ's tools share, "dynamic" rules included: an anchored regular expression per
/// exception and per unquantized module (lm_head has a field of its own).
nlohmann::json gptq_config(const char* checkpoint_format, const CheckpointSchemes&);

/// Exceptions that differ from the common scheme. Throws Error{bad_input} if one of them is unquantized.
std::map<std::string, Scheme> real_exceptions(const CheckpointSchemes&);

}  // namespace mpk::formats
