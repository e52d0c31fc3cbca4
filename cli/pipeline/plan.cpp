#include "cli/pipeline/plan.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "model/config.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

std::string_view last_component(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

// ---- what a rank gets

/// Attention heads may not be divided; 0: the configuration does not tell.
struct Heads {
  std::int64_t queries = 0, keys = 0, size = 0;
};

std::int64_t positive(const nlohmann::json& config, const char* key) {
  constexpr std::int64_t kMost = 1 << 24;
  if (!config.is_object() || !config.contains(key) || !config[key].is_number_integer()) return 0;
  const auto value = config[key].get<std::int64_t>();
  return value > 0 && value <= kMost ? value : 0;
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

struct RankPart {
  Geometry geometry;
  std::int64_t copies = 1;
  std::string why_not = {};
};

RankPart not_divided(const Geometry& whole, const std::string& why) {
  RankPart part{whole};
  part.why_not = why;
  return part;
}

RankPart divide_columns(const Geometry& whole, std::string_view kind, const Heads& heads,
                        std::int64_t ranks) {
  std::int64_t divisor = ranks;
  const std::int64_t n = whole.n.value;
  if ((kind == "k_proj" || kind == "v_proj") && heads.keys > 0 && n == heads.keys * heads.size) {
    divisor = std::min(ranks, heads.keys);
    if (std::max(ranks, heads.keys) % divisor != 0)
      return not_divided(whole, fmt::format("{} key heads over {} ranks", heads.keys, ranks));
  }
  if (kind == "q_proj" && heads.queries > 0 && n == heads.queries * heads.size && heads.queries % ranks != 0)
    return not_divided(whole, fmt::format("{} heads over {} ranks", heads.queries, ranks));
  if (n % divisor != 0) return not_divided(whole, fmt::format("N = {} not divisible by {}", n, divisor));
  const std::int64_t columns = n / divisor, block = whole.scheme.columns_per_scale;
  if (block > 1 && divisor > 1 && columns % block != 0)
    return not_divided(whole, fmt::format("block of {} straddles {} columns", block, columns));
  return {{whole.scheme, whole.k, N{columns}}, ranks / divisor};
}

RankPart divide_rows(const Geometry& whole, std::string_view kind, const Heads& heads, std::int64_t ranks) {
  const std::int64_t k = whole.k.value;
  if (kind == "o_proj" && heads.queries > 0 && k == heads.queries * heads.size && heads.queries % ranks != 0)
    return not_divided(whole, fmt::format("{} heads over {} ranks", heads.queries, ranks));
  if (k % ranks != 0) return not_divided(whole, fmt::format("K = {} not divisible by {}", k, ranks));
  // Neighbouring rows belong to groups from all over the matrix, so a rank would need all scales.
  if (whole.scheme.act_order) return not_divided(whole, "act_order scatters the groups of a rank's rows");
  const std::int64_t rows = k / ranks;
  if (whole.scheme.group_size && rows % whole.scheme.group_size->value != 0)
    return not_divided(whole,
                       fmt::format("group {} straddles {} rows", whole.scheme.group_size->value, rows));
  return {{whole.scheme, K{rows}, whole.n}};
}

RankPart divide(const Geometry& whole, std::string_view kind, Split split, const Heads& heads,
                std::int64_t ranks) {
  if (ranks == 1) return {whole};
  if (split == Split::columns) return divide_columns(whole, kind, heads, ranks);
  if (split == Split::rows) return divide_rows(whole, kind, heads, ranks);
  return {whole, ranks};
}

// ---- what it becomes

std::uint64_t bytes_of(const std::vector<PartSpec>& parts, std::int64_t experts) {
  std::uint64_t bytes = 0;
  for (const PartSpec& part : parts) bytes += num_bytes(part);
  return bytes * static_cast<std::uint64_t>(std::max<std::int64_t>(experts, 1));
}

/// Modules whose weight engines never quantize.
bool is_kept_in_float(std::string_view module) {
  const std::string_view kind = last_component(module);
  constexpr std::string_view kKept[] = {"lm_head", "embed_out",          "output", "router",
                                        "gate",    "shared_expert_gate", "score",  "classifier"};
  return std::ranges::find(kKept, kind) != std::end(kKept) || module.find("norm") != std::string_view::npos ||
         module.find(".router.") != std::string_view::npos;
}

bool has_tied_embeddings(const nlohmann::json& config) {
  try {
    return parse_config(config).tied_embeddings;
  } catch (const Error&) {  // an architecture that is not run here can be planned all the same
    return config.is_object() && config.contains("tie_word_embeddings") &&
           config["tie_word_embeddings"] == true;
  }
}

class Planner {
 public:
  explicit Planner(const PlanJob& job)
      : job_{job},
        rows_{family_rows(job.target)},
        source_{PackedCheckpoint::open(job.source, job.zeros)},
        heads_{heads_of(source_.checkpoint().config())} {
    if (rows_.empty())
      throw Error{ErrorKind::usage, fmt::format("--to {}: there is no such format to write", job.target)};
    for (const std::int64_t ranks : job.ranks)
      if (ranks < 1) throw Error{ErrorKind::usage, fmt::format("--tp {}: at least 1", ranks)};
    options_ = job.recode;
    options_.preferred_scale_dtype = source_.model_dtype() == DType::F16 ? DType::F16 : DType::BF16;
  }

  PlanReport operator()() {
    report_.target = job_.target;
    report_.is_packed = !source_.modules().empty();
    report_.notes = source_.notes();
    for (const std::int64_t ranks : job_.ranks) report_.totals.push_back({ranks});
    for (const std::string& name : checkpoint().names()) report_.source_bytes += size_of(name);
    report_.largest_tensor = largest_tensor(checkpoint());
    if (report_.is_packed) {
      plan_packed();
    } else {
      plan_floats();
    }
    add_totals();
    report_.bytes_per_second = job_.bytes_per_second;
    report_.seconds =
        static_cast<double>(report_.source_bytes + report_.result_bytes) / job_.bytes_per_second;
    return std::move(report_);
  }

 private:
  const Checkpoint& checkpoint() const { return source_.checkpoint(); }
  std::uint64_t size_of(const std::string& name) const { return checkpoint().tensor(name).data.size(); }

  /// `facts` is asked only where the way depends on the numbers.
  template <class Facts>
  RankPlan plan_part(const RankPart& part, std::int64_t ranks, std::int64_t experts, Facts facts) {
    RankPlan plan;
    plan.ranks = ranks;
    plan.copies = part.copies;
    plan.why = part.why_not;
    if (!part.why_not.empty()) return plan;
    plan.k = part.geometry.k;
    plan.n = part.geometry.n;
    const bool look =
        options_.scale_dtype.has_value() || needs_facts(lowest_zero_, part.geometry.scheme, rows_);
    const auto way = find_route(part.geometry, look ? facts() : MatrixFacts{}, rows_, options_);
    if (const auto* why = std::get_if<std::string>(&way)) {
      plan.why = *why;
      return plan;
    }
    const auto& route = std::get<Route>(way);
    plan.stored_k = route.to.k;
    plan.stored_n = route.to.n;
    plan.fit = plan.stored_k == plan.k && plan.stored_n == plan.n ? Fit::fits : Fit::padded;
    plan.format = route.format->name;
    plan.exact = route.exact();
    plan.notes = route.notes;
    plan.bytes = bytes_of(route.format->specs(route.to.scheme, route.to.k, route.to.n), experts);
    return plan;
  }

  template <class Facts>
  void plan_ranks(PlannedModule& module, Facts facts) {
    for (const std::int64_t ranks : job_.ranks) {
      if (ranks == 1) {
        module.ranks.push_back(module.whole);
        continue;
      }
      const RankPart part = divide(module.geometry, module.kind, module.split, heads_, ranks);
      module.ranks.push_back(plan_part(part, ranks, module.experts, facts));
    }
  }

  // ---- packed checkpoints

  void plan_packed() {
    const bool restores = job_.target == source_.origin().family;
    std::set<std::string> taken;
    for (const PackedModule& packed : source_.modules()) {
      for (const auto* suffixes : {&packed.suffixes, &packed.companions})
        for (const std::string& suffix : *suffixes) taken.insert(packed.tensor_name(suffix));
      within("module " + packed.name, [&] { plan_packed_module(packed, restores); });
    }
    for (const std::string& name : checkpoint().names())
      if (!taken.contains(name)) report_.result_bytes += size_of(name);
    report_.memory_bytes = 2 * report_.largest_tensor + kFixedMemoryBytes;
  }

  void plan_packed_module(const PackedModule& packed, bool restores) {
    PlannedModule module;
    module.name = packed.name;
    module.kind = last_component(packed.name);
    module.from = packed.stored.format->name;
    module.geometry = packed.stored.geometry;
    module.experts = packed.experts;
    module.split = split_of(packed.name);
    for (const std::string& suffix : packed.suffixes)
      module.source_bytes += size_of(packed.tensor_name(suffix));
    lowest_zero_ = packed.stored.format->lowest_zero;
    std::optional<MatrixFacts> facts;
    const auto look = [&]() -> const MatrixFacts& {
      if (!facts) facts = facts_of(packed, checkpoint());
      return *facts;
    };
    LayerOrigin origin;
    if (restores) {
      origin = source_.origin_of(packed);
      module.whole = plan_restored(origin, packed.experts);
      module.geometry = {origin.scheme, origin.k, origin.n};
    } else {
      module.whole = plan_part({module.geometry}, 1, packed.experts, look);
    }
    plan_ranks(module, look);
    report_.result_bytes += result_bytes(packed, module, origin, restores);
    report_.modules.push_back(std::move(module));
  }

  /// As it was, whatever the table would make of it today.
  static RankPlan plan_restored(const LayerOrigin& origin, std::int64_t experts) {
    RankPlan plan;
    plan.k = origin.k;
    plan.n = origin.n;
    const WeightFormat* format = weight_format_named(origin.layout);
    if (!format || !format->writes()) {
      plan.why = fmt::format("came as {}, which is not written here", origin.layout);
      return plan;
    }
    plan.stored_k = origin.k;
    plan.stored_n = origin.n;
    plan.fit = Fit::fits;
    plan.format = origin.layout;
    plan.bytes = bytes_of(origin.parts, experts);
    return plan;
  }

  /// Of all tensors that the module becomes.
  std::uint64_t result_bytes(const PackedModule& packed, const PlannedModule& module,
                             const LayerOrigin& origin, bool restores) const {
    const bool refused = module.whole.fit == Fit::refused;
    std::uint64_t bytes = refused ? module.source_bytes : module.whole.bytes;
    for (const std::string& suffix : packed.companions)
      if (refused || (!origin.kept.contains(suffix) && keeps_companion(job_.target, restores, suffix)))
        bytes += size_of(packed.tensor_name(suffix));
    if (!refused)
      for (const auto& [suffix, tensor] : origin.kept)
        if (std::ranges::find(origin.parts, suffix, &PartSpec::suffix) == origin.parts.end())
          bytes += tensor.data.size();
    return bytes;
  }

  // ---- checkpoints of floats

  void plan_floats() {
    std::vector<std::string> linears;
    for (const std::string& name : source_.float_linears())
      if (!is_kept_in_float(name)) linears.push_back(name);
    if (linears.empty())
      throw Error{ErrorKind::unsupported,
                  fmt::format("{}: neither packed layers of a format that is read here (marlin-pack formats "
                              "lists them) nor linear layers of floats",
                              job_.source.string())};
    Recipe recipe;
    recipe.scheme = job_.scheme;
    const SourcePlan plan =
        plan_source(checkpoint(), linears, recipe, has_tied_embeddings(checkpoint().config()));
    for (const SourceTensor& tensor : plan.tensors)
      if (tensor.fate == Fate::copied) report_.result_bytes += size_of(tensor.name);
    for (const auto& [name, layer] : plan.layers) {
      PlannedModule module;
      module.name = name;
      module.kind = last_component(name);
      module.from = "float";
      module.geometry = {layer.scheme, layer.k, layer.n};
      module.split = split_of(name);
      module.source_bytes = size_of(name + ".weight");
      const auto none = [] { return MatrixFacts{}; };
      module.whole = plan_part({module.geometry}, 1, 0, none);
      plan_ranks(module, none);
      report_.result_bytes += module.whole.fit == Fit::refused ? module.source_bytes : module.whole.bytes;
      report_.modules.push_back(std::move(module));
    }
    if (std::ranges::any_of(report_.modules,
                            [](const PlannedModule& module) { return module.whole.fit == Fit::padded; }))
      report_.notes.push_back(fmt::format(
          "quantize does not pad: quantize --format gptq, then convert --to {} does", job_.target));
  }

  void add_totals() {
    for (const PlannedModule& module : report_.modules)
      if (module.whole.fit == Fit::refused) ++report_.refused;
    for (std::size_t i = 0; i < report_.totals.size(); ++i) {
      RankTotals& totals = report_.totals[i];
      double weights = 0, stored = 0;
      for (const PlannedModule& module : report_.modules) {
        const RankPlan& plan = module.ranks[i];
        ++(plan.fit == Fit::fits ? totals.fit : plan.fit == Fit::padded ? totals.padded : totals.refused);
        totals.bytes += plan.bytes;
        if (plan.fit == Fit::refused) continue;
        const double matrices = static_cast<double>(std::max<std::int64_t>(module.experts, 1));
        weights += matrices * static_cast<double>(plan.k.value) * static_cast<double>(plan.n.value);
        stored +=
            matrices * static_cast<double>(plan.stored_k.value) * static_cast<double>(plan.stored_n.value);
      }
      totals.padding = weights > 0 ? stored / weights - 1 : 0;
    }
  }

  const PlanJob& job_;
  std::vector<const WeightFormat*> rows_;
  PackedCheckpoint source_;
  Heads heads_;
  RecodeOptions options_;
  int lowest_zero_ = 0;  ///< of the row that the planned module comes from
  PlanReport report_;
};

}  // namespace

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
       {"q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "gate_proj", "up_proj", "gate_up_proj",
        "w1", "w3", "fc1", "c_fc", "dense_h_to_4h", "wq", "wk", "wv"}},
      {Split::rows,
       {"o_proj", "down_proj", "w2", "out_proj", "fc2", "c_proj", "dense_4h_to_h", "wo", "dense"}},
  };
  const std::string_view kind = last_component(module);
  for (const Row& row : table)
    if (std::ranges::find(row.kinds, kind) != row.kinds.end()) return row.split;
  return Split::none;
}

PlanReport run_plan(const PlanJob& job) {
  return Planner{job}();
}

}  // namespace mpk
