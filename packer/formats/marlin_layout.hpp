#pragma once
// What the Marlin rows share: codes as I32 (K / 16, N * bits / 2), scales (groups, N) in the kernel's order,
// zero points as streams of 64 columns, and the limits of the kernels.

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"

namespace mpk::formats {

struct MarlinNames {
  const char *codes, *scales;
};

/// {codes, scales}
std::vector<PartSpec> marlin_specs(const MarlinNames&, const Scheme&, K, N);
/// 16-bit activations, 16-bit scales.
void write_marlin(const MarlinNames&, const QuantizedMatrix&, const Geometry&, const PartBuffers&);
void read_marlin(const MarlinNames&, const PartViews&, const Geometry&, QuantizedMatrix&);
/// By the shapes alone, as a symmetric type.
Geometry marlin_geometry(const MarlinNames&, const PartViews&, const Claims&);

/// Why a kernel that computes 128 x 64 or 64 x 128 (K x N) at a time does not take these sizes.
std::optional<std::string> marlin_tile_refusal(const char* name, K, N);
/// group_size -1, 32, 64 and 128 are what kernels for integers read.
std::optional<std::string> marlin_group_refusal(const char* name, const Scheme&);

/// Is this a file of ours in `dialect`, or (with_anonymous) one of which nothing is claimed?
bool may_be_ours(const Claims&, std::string_view dialect, bool with_anonymous);
/// Takes the type from the claims where several fit the tensors; 8 bits and 16-bit scales may be u8b128 or
/// e4m3. Throws Error{bad_input} for a claim that contradicts `found`, which says what the tensors say.
void settle_type(Scheme& found, const Claims&);

/// The order of zero points in rows of `qzeros`, I32 (groups, N * bits / 32).
enum class ZeroOrder { u4, u8, u4_a8 };
PartSpec qzeros_spec(const Scheme&, K, N);
/// Throws Error{unsupported} for a zero point outside of 0 .. 2^bits - 1.
void write_qzeros(const QuantizedMatrix&, const Geometry&, ZeroOrder, std::span<std::byte> out);
void read_qzeros(std::span<const std::byte> words, const Geometry&, ZeroOrder, QuantizedMatrix& out);
/// Throws Error{unsupported} for a zero point outside of 0 .. 2^bits - 1.
void require_zeros_fit(const QuantizedMatrix&);

/// Throws `kind` for E4M3 codes that are not numbers: kernels multiply with 480 instead.
void require_numbers(const QuantizedMatrix&, ErrorKind kind);

/// "scale_dtype", "type" and whatever else of a scheme a reader of our own layouts needs.
nlohmann::json own_scheme_fields(const Scheme&);
/// quant_method "marlin-pack" and everything said above of every scheme. No engine reads these layouts from
/// disk: they repack gptq, AWQ or compressed-tensors tensors when they load. Under a name that one of them
/// knows it would repack these bytes again, hence a quant_method of our own.
nlohmann::json own_config(const char* checkpoint_format, const CheckpointSchemes&,
                          nlohmann::json (*fields)(const Scheme&));

}  // namespace mpk::formats
