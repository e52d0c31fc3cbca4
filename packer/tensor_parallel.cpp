#include "packer/tensor_parallel.hpp"

#include <algorithm>
#include <variant>

#include <fmt/format.h>

namespace mpk {
namespace {

/// Columns that are divided by themselves: all of a layer, or one of the layers that were fused into it.
struct Section {
  ColumnRange columns;
  std::int64_t divisor = 1;  ///< no more than the ranks: fewer key heads are shared
};

std::int64_t positive(const nlohmann::json& config, const char* key) {
  constexpr std::int64_t kMost = 1 << 24;
  if (!config.is_object() || !config.contains(key) || !config[key].is_number_integer()) return 0;
  const auto value = config[key].get<std::int64_t>();
  return value > 0 && value <= kMost ? value : 0;
}

bool is_one_of(std::string_view kind, std::initializer_list<std::string_view> kinds) {
  return std::ranges::find(kinds, kind) != kinds.end();
}

/// Why whole query heads do not go around; "": they do, or nothing is known of them.
std::string query_heads_refusal(const Heads& heads, std::int64_t ranks) {
  return heads.queries > 0 && heads.queries % ranks != 0
             ? fmt::format("{} heads over {} ranks", heads.queries, ranks)
             : "";
}

std::string key_heads_refusal(const Heads& heads, std::int64_t ranks) {
  const std::int64_t shared = std::min(ranks, heads.keys);
  return std::max(ranks, heads.keys) % shared != 0
             ? fmt::format("{} key heads over {} ranks", heads.keys, ranks)
             : "";
}

using Sections = std::variant<std::vector<Section>, std::string>;

Sections fused_attention(std::int64_t n, const Heads& heads, std::int64_t ranks) {
  const std::int64_t queries = heads.queries * heads.size, keys = heads.keys * heads.size;
  if (n == 0 || n != queries + 2 * keys)
    return fmt::format("N = {} is not the queries, keys and values of {} + 2 x {} heads of {} in config.json",
                       n, heads.queries, heads.keys, heads.size);
  for (const std::string& why : {query_heads_refusal(heads, ranks), key_heads_refusal(heads, ranks)})
    if (!why.empty()) return why;
  const std::int64_t shared = std::min(ranks, heads.keys);
  return std::vector<Section>{
      {{0, queries}, ranks}, {{queries, keys}, shared}, {{queries + keys, keys}, shared}};
}

Sections sections_of(const DivisibleLayer& layer, const Heads& heads, std::int64_t ranks) {
  const std::string_view kind = last_component(layer.module);
  const std::int64_t n = layer.geometry.n.value;
  if (is_one_of(kind, {"qkv_proj", "Wqkv"})) return fused_attention(n, heads, ranks);
  if (kind == "query_key_value")
    return fmt::format("models order the heads of {} differently; store q, k and v apart", kind);
  if (kind == "gate_up_proj" && n % 2 != 0) return fmt::format("N = {} is not a gate and an up", n);
  if (kind == "gate_up_proj" && !layer.is_stacked)
    return std::vector<Section>{{{0, n / 2}, ranks}, {{n / 2, n / 2}, ranks}};
  if (kind == "gate_up_proj" && n / 2 % ranks != 0)
    return fmt::format("N = {} not divisible by {} pairs", n, ranks);
  if (is_one_of(kind, {"k_proj", "v_proj"}) && heads.keys > 0 && n == heads.keys * heads.size) {
    if (const std::string why = key_heads_refusal(heads, ranks); !why.empty()) return why;
    return std::vector<Section>{{{0, n}, std::min(ranks, heads.keys)}};
  }
  if (is_one_of(kind, {"q_proj", "q_b_proj", "kv_b_proj"}) && heads.queries > 0 && n % heads.queries == 0)
    if (const std::string why = query_heads_refusal(heads, ranks); !why.empty()) return why;
  return std::vector<Section>{{{0, n}, ranks}};
}

RankPart whole_layer(const Geometry& whole, std::int64_t copies, std::string why_not = {}) {
  return {whole, {{0, whole.n.value}}, {0, whole.k.value}, copies, std::move(why_not)};
}

RankPart divide_columns(const DivisibleLayer& layer, const Heads& heads, std::int64_t ranks,
                        std::int64_t rank) {
  const Geometry& whole = layer.geometry;
  const Sections sections = sections_of(layer, heads, ranks);
  if (const auto* why = std::get_if<std::string>(&sections)) return whole_layer(whole, 1, *why);
  RankPart part{whole, {}, {0, whole.k.value}, ranks};
  part.geometry.n = N{0};
  for (const auto& [columns, divisor] : std::get<std::vector<Section>>(sections)) {
    if (columns.count % divisor != 0)
      return whole_layer(whole, 1, fmt::format("N = {} not divisible by {}", columns.count, divisor));
    const std::int64_t count = columns.count / divisor, block = whole.scheme.columns_per_scale;
    if (block > 1 && divisor > 1 && (count % block != 0 || columns.first % block != 0))
      return whole_layer(whole, 1, fmt::format("block of {} straddles {} columns", block, count));
    const std::int64_t copies = ranks / divisor;
    part.columns.push_back({columns.first + rank / copies * count, count});
    part.geometry.n = N{part.geometry.n.value + count};
    part.copies = std::min(part.copies, copies);
  }
  return part;
}

/// Does every rank have all rows of its groups?
bool is_local(std::span<const std::int32_t> g_idx, std::int64_t rows, std::int64_t groups) {
  for (std::size_t k = 0; k < g_idx.size(); ++k)
    if (g_idx[k] / groups != static_cast<std::int64_t>(k) / rows) return false;
  return true;
}

RankPart divide_rows(const DivisibleLayer& layer, const Heads& heads, std::int64_t ranks, std::int64_t rank) {
  const Geometry& whole = layer.geometry;
  const std::int64_t k = whole.k.value;
  if (last_component(layer.module) == "o_proj" && heads.queries > 0 && k % heads.queries == 0)
    if (const std::string why = query_heads_refusal(heads, ranks); !why.empty())
      return whole_layer(whole, 1, why);
  if (k % ranks != 0) return whole_layer(whole, 1, fmt::format("K = {} not divisible by {}", k, ranks));
  const std::int64_t rows = k / ranks;
  const auto& group = whole.scheme.group_size;
  if (group && rows % group->value != 0)
    return whole_layer(whole, 1, fmt::format("group {} straddles {} rows", group->value, rows));
  // Neighbouring rows belong to groups from all over the matrix, so a rank would need all scales, and none of
  // its groups would be full.
  if (whole.scheme.act_order &&
      (!group || !layer.g_idx || !is_local(layer.g_idx(), rows, rows / group->value)))
    return whole_layer(whole, 1, "act_order scatters the groups of a rank's rows");
  RankPart part{{whole.scheme, K{rows}, whole.n}, {{0, whole.n.value}}, {rank * rows, rows}, 1};
  if (group && group->value == rows && whole.scheme.type.is_integer()) {  // one group is one scale per column
    part.geometry.scheme.group_size = std::nullopt;
    part.geometry.scheme.act_order = false;
  }
  return part;
}

}  // namespace

std::string_view last_component(std::string_view module) {
  const std::size_t dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

const char* name_of(Split split) {
  return split == Split::columns ? "column" : split == Split::rows ? "row" : "whole";
}

Split split_of(std::string_view module) {
  struct Row {
    Split split;
    std::vector<std::string_view> kinds;
  };
  static const Row table[] = {
      {Split::columns,
       {"q_proj", "k_proj", "v_proj", "qkv_proj", "Wqkv", "query_key_value", "q_b_proj", "kv_b_proj",
        "gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "fc1", "c_fc", "dense_h_to_4h", "wq", "wk",
        "wv"}},
      {Split::rows,
       {"o_proj", "down_proj", "w2", "out_proj", "fc2", "c_proj", "dense_4h_to_h", "wo", "dense"}},
  };
  const std::string_view kind = last_component(module);
  for (const Row& row : table)
    if (std::ranges::find(row.kinds, kind) != row.kinds.end()) return row.split;
  return Split::none;
}

Heads heads_of(const nlohmann::json& config) {
  // Models that also see keep the language model's numbers one level down.
  const bool nested = config.is_object() && config.contains("text_config");
  const nlohmann::json& text = nested ? config["text_config"] : config;
  Heads heads;
  heads.queries = positive(text, "num_attention_heads");
  heads.keys = positive(text, "num_key_value_heads");
  if (heads.keys == 0) heads.keys = heads.queries;
  heads.size = positive(text, "head_dim");
  if (heads.size == 0 && heads.queries != 0) heads.size = positive(text, "hidden_size") / heads.queries;
  return heads;
}

RankPart part_of_rank(const DivisibleLayer& layer, const Heads& heads, std::int64_t ranks,
                      std::int64_t rank) {
  if (ranks == 1) return whole_layer(layer.geometry, 1);
  const Split split = split_of(layer.module);
  if (split == Split::columns) return divide_columns(layer, heads, ranks, rank);
  if (split == Split::rows) return divide_rows(layer, heads, ranks, rank);
  return whole_layer(layer.geometry, ranks);
}

QuantizedMatrix cut_rows(const QuantizedMatrix& q, const Geometry& whole, RowRange rows,
                         const Geometry& part) {
  const std::int64_t first_group = whole.scheme.group_size ? rows.first / whole.scheme.group_size->value : 0;
  const std::int64_t groups = part.scheme.groups(part.k).value;
  QuantizedMatrix out = make_matrix(part.scheme, part.k, q.n(), q.first_column);
  out.codes = q.codes.middleRows(rows.first, rows.count);
  out.scales = q.scales.middleRows(first_group, groups);
  if (q.zero_points.size() > 0) out.zero_points = q.zero_points.middleRows(first_group, groups);
  if (q.float_zeros.size() > 0) out.float_zeros = q.float_zeros.middleRows(first_group, groups);
  for (std::size_t k = 0; k < out.g_idx.size(); ++k)
    out.g_idx[k] = q.g_idx[static_cast<std::size_t>(rows.first) + k] - static_cast<std::int32_t>(first_group);
  out.global_scale = q.global_scale;
  return out;
}

std::string padding_text(K k, N n, K stored_k, N stored_n) {
  return fmt::format("pad {}x{} -> {}x{}", k.value, n.value, stored_k.value, stored_n.value);
}

}  // namespace mpk
