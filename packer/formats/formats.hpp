#pragma once
// One function per row of the table, and what the files of this folder share.

#include "packer/scales.hpp"
#include "packer/weight_format.hpp"

namespace mpk::formats {

WeightFormat marlin();
WeightFormat marlin_original();
WeightFormat marlin_a8();
WeightFormat marlin_24();
WeightFormat ct_marlin_24();
WeightFormat gptq();
WeightFormat gptq_v2();
WeightFormat ct_float_quantized();
WeightFormat fp8();
WeightFormat ct_nvfp4();
WeightFormat modelopt_nvfp4();
WeightFormat ct_mxfp4();
WeightFormat ct_mxfp8();
WeightFormat gpt_oss_mxfp4();
WeightFormat awq();
WeightFormat awq_gemv();
WeightFormat awq_gemv_fast();
WeightFormat awq_marlin();
WeightFormat ct_pack_quantized();
WeightFormat ct_int_quantized();
WeightFormat hqq();

/// What no format can store: sizes below 1 or above 2^31 - 1, a type without a name, scales that are not
/// floats or that divide, a group_size below 1.
std::optional<std::string> common_refusal(const Scheme&, K, N);

/// What the formats of plain integers have in common: an integer type, scales of 16 bits, whole groups, no
/// float zeros, no global scale, a scale of its own for every column. `name` begins the message.
std::optional<std::string> integer_refusal(const char* name, const Scheme&, K, N);

/// Throws Error{unsupported} with what `refusal` says, if anything.
void refuse(std::optional<std::string> (*refusal)(const Scheme&, K, N), const Scheme&, K, N);

/// Throws Error{bad_input} unless the matrix has the shapes its scheme asks for.
void require_consistent(const QuantizedMatrix&);

/// The part's two extents, both positive. Throws Error{bad_input} otherwise.
struct Extents {
  std::int64_t rows, cols;
};
Extents matrix_extents(const PartViews&, std::string_view suffix);

/// These suffixes and no others; `optional` ones may be there.
bool has_exactly(const PartViews&, std::initializer_list<std::string_view> suffixes,
                 std::initializer_list<std::string_view> optional = {});

/// nullopt for one group, which has no size; otherwise the rows per group, from the configuration if that
/// fits and else K / groups. Throws Error{bad_input} if no size makes that many groups.
std::optional<GroupSize> group_size_of(K k, std::int64_t groups, const Claims&);

/// The window that a matrix is of a whole one.
inline ColumnWindow window_of(const QuantizedMatrix& q, const Geometry& whole) {
  return {whole.n, q.first_column};
}

/// Element i of an array of 32-bit words, aligned or not.
std::uint32_t load_word(std::span<const std::byte> words, std::int64_t i);
void store_word(std::span<std::byte> words, std::int64_t i, std::uint32_t word);

/// The configuration that GPTQ's tools share, "dynamic" rules included: an anchored regular expression per
/// exception and per unquantized module (lm_head has a field of its own).
nlohmann::json gptq_config(const char* checkpoint_format, const CheckpointSchemes&);

/// The configuration of every scheme that a row of family "compressed-tensors" holds, integers and small
/// floats: a config group per distinct description, its exceptions named one by one. Throws Error{bad_input}
/// if an exception is unquantized, Error{unsupported} for a scheme without a strategy.
nlohmann::json compressed_tensors_config(const CheckpointSchemes&);

/// Exceptions that differ from the common scheme. Throws Error{bad_input} if one of them is unquantized.
std::map<std::string, Scheme> real_exceptions(const CheckpointSchemes&);

/// `schemes`, with the joint names of parts that engines fuse (qkv_proj, gate_up_proj) where all parts are
/// excepted alike, or all left unquantized.
CheckpointSchemes with_fused_names(CheckpointSchemes schemes);

/// A regular expression that matches this module name and nothing else.
std::string exactly(const std::string& module);

}  // namespace mpk::formats
