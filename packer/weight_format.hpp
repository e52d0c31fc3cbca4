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

#include "packer/claims.hpp"
#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// How the linear layers of a whole checkpoint are stored, as its config.json has to tell.
struct CheckpointSchemes {
  Scheme common;                             ///< of every quantized module not named below
  std::map<std::string, Scheme> exceptions;  ///< module -> scheme; entries equal to `common` say nothing new
  std::set<std::string> unquantized;         ///< linear modules that keep their float weight
};

/// What the tensors of a module tell: their headers, and the small ones' data (zero points, g_idx). One group
/// reads as group_size nullopt, except where the format has a size of its own (blocks of FP8, NVFP4, MX).
struct Geometry {
  Scheme scheme;
  K k;
  N n;
  friend bool operator==(const Geometry&, const Geometry&) = default;
};

/// Neighbouring columns of a matrix.
struct ColumnRange {
  std::int64_t first = 0, count = 0;
};

/// What kernels with 16-bit activations multiply with, F16 or BF16: what the scheme says if it says one of
/// them, else the type of its scales, BF16 for powers of two, else F16.
DType activations_of_16_bits(const Scheme& scheme);

struct WeightFormat {
  const char* name;
  const char* family;   ///< --format and --to offer these: the rows of a family share a configuration
  const char* summary;  ///< one line for --help
  std::vector<std::string_view> suffixes;  ///< of every module, in the order of `specs`; some rows add others

  /// The zero points it stores are lowest_zero .. lowest_zero + 2^bits - 1.
  int lowest_zero = 0;
  /// It holds only matrices with two zeros in every four rows of a column (is_24 of packer/sparse24.hpp).
  bool only_24 = false;
  /// What the kernels that read it multiply a layer with, F16, BF16, F8_E4M3 or I8: what the scheme says, or
  /// what is usual in this row.
  DType (*activations)(const Scheme&) = activations_of_16_bits;

  /// nullopt: not this row's tensors. `parts` come without companions. Throws Error{bad_input} if they
  /// contradict each other, Error{unsupported} for a variety that is known and not read.
  std::optional<Geometry> (*recognize)(const PartViews& parts, const Claims& claims) = nullptr;
  /// Fills `out`, whose parts are allocated and whose columns begin at out.first_column. `parts` have been
  /// recognized as `geometry`; how they spell it is in their own dtypes and shapes. Throws Error{bad_input}
  /// that names the suffix if the data are anything the format cannot mean.
  void (*read)(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) = nullptr;

  /// Why such a matrix cannot be written so, with the numbers and a way out; nullopt: it can.
  std::optional<std::string> (*refusal)(const Scheme&, K, N) = nullptr;
  /// The tensors `write` fills, in the format's usual spelling. Only for matrices without refusal.
  std::vector<PartSpec> (*specs)(const Scheme&, K, N) = nullptr;
  /// Writes the columns that `matrix` holds; buffers start zeroed. Different columns may be written by
  /// different threads if they come in ranges that begin at multiples of kColumnUnit. Throws Error{bad_input}
  /// for codes above the type's maximum and scales that the buffer's dtype cannot hold exactly.
  void (*write)(const QuantizedMatrix& matrix, const Geometry& geometry, const PartBuffers& out) = nullptr;
  /// The "quantization_config" of config.json. Throws Error{bad_input} if an exception is unquantized too.
  nlohmann::json (*quantization_config)(const CheckpointSchemes&) = nullptr;

  bool reads() const { return read != nullptr; }
  bool writes() const { return write != nullptr; }

  /// A whole matrix at once. Throws Error{unsupported} with the refusal and what `write` throws.
  std::vector<Part> encode(const QuantizedMatrix&) const;
  /// The inverse, bit for bit: throws unless `parts` are exactly what `encode` makes of such a scheme.
  QuantizedMatrix decode(const PartViews&, const Scheme&, K, N) const;
};

/// Ranges of columns that begin at multiples of this share no byte in any format.
inline constexpr std::int64_t kColumnUnit = 128;

std::span<const WeightFormat> weight_formats();

/// nullptr: no such row.
const WeightFormat* weight_format_named(std::string_view name);

/// The names of the families that can be written, in the table's order.
std::vector<std::string> writable_families();
/// The rows of a family, in the table's order: the first without refusal is the one to write.
std::vector<const WeightFormat*> family_rows(std::string_view family);

struct StoredMatrix {
  const WeightFormat* format = nullptr;
  Geometry geometry = {};
};

/// Which row wrote the tensors of one module, companions aside: the first one that recognizes them. nullopt:
/// none, for instance a float weight.
std::optional<StoredMatrix> recognize(const PartViews& parts, const Claims& claims = {});

/// Tensors of a module that say nothing about its weight: bias, scales of the activations and of the caches.
bool is_companion(std::string_view suffix);

/// Some columns as a matrix of their own.
QuantizedMatrix read_columns(const StoredMatrix& stored, const PartViews& parts, ColumnRange columns);

}  // namespace mpk
