#pragma once
// How tensor parallelism divides a layer among ranks: which columns and rows each of them holds, and why some
// layers cannot be divided. `plan` tells it and `convert --tp` does it, both from here.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/weight_format.hpp"

namespace mpk {

/// What engines divide among the ranks of tensor parallelism.
enum class Split {
  columns,  ///< N: every rank computes some outputs
  rows,     ///< K: every rank computes a part of every sum
  none      ///< every rank has the whole layer
};
const char* name_of(Split split);
/// By the last component of the module's name; none for a name that is not in the table.
Split split_of(std::string_view module);
/// "down_proj" of "model.layers.0.mlp.down_proj".
std::string_view last_component(std::string_view module);

/// The rank that has the bias of a layer whose rows are divided; the bias of the others is zero, so that the
/// sum over all ranks counts it once.
inline constexpr std::int64_t kBiasRank = 0;

/// Attention heads may not be divided; 0: the configuration does not tell.
struct Heads {
  std::int64_t queries = 0, keys = 0, size = 0;
};
/// Of a config.json, or of its text_config. num_key_value_heads and head_dim may be left to
/// num_attention_heads and hidden_size.
Heads heads_of(const nlohmann::json& config);

/// Neighbouring rows of a matrix.
struct RowRange {
  std::int64_t first = 0, count = 0;
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

/// What the division has to know of a layer.
struct DivisibleLayer {
  std::string_view module;
  Geometry geometry;
  /// Experts in one tensor, as GPT-OSS has them: gate and up alternate along N there, and follow each other
  /// elsewhere.
  bool is_stacked = false;
  /// The group of each row; asked only for rows of a scheme with act_order.
  std::function<std::vector<std::int32_t>()> g_idx = {};
};

struct RankPart {
  Geometry geometry = {{}, K{0}, N{0}};  ///< of the part
  /// Of the whole layer, in the order in which the rank stores them; several where the layer is q, k and v,
  /// or gate and up, in one.
  std::vector<ColumnRange> columns = {};
  RowRange rows = {};
  std::int64_t copies = 1;   ///< ranks that hold the same part
  std::string why_not = {};  ///< the layer cannot be divided; the rest is the whole layer then
};

/// The part of one rank. Whether it can be divided does not depend on `rank`.
RankPart part_of_rank(const DivisibleLayer& layer, const Heads& heads, std::int64_t ranks, std::int64_t rank);

/// Some rows of `q`, which holds all rows of some columns of a layer `whole`; `part` is the geometry that
/// part_of_rank gave these rows.
QuantizedMatrix cut_rows(const QuantizedMatrix& q, const Geometry& whole, RowRange rows,
                         const Geometry& part);

/// "pad 256x96 -> 256x128".
std::string padding_text(K k, N n, K stored_k, N stored_n);

}  // namespace mpk
