#include "cli/pipeline/plan.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/layer_view.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "model/config.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

// ---- what it becomes

std::uint64_t bytes_of(const std::vector<PartSpec>& parts, std::int64_t experts) {
  std::uint64_t bytes = 0;
  for (const PartSpec& part : parts) bytes += num_bytes(part);
  return bytes * static_cast<std::uint64_t>(std::max<std::int64_t>(experts, 1));
}

RankPart undivided(const Geometry& whole) {
  RankPart part;
  part.geometry = whole;
  return part;
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
  void plan_ranks(PlannedModule& module, Facts facts,
                  const std::function<std::vector<std::int32_t>()>& g_idx = {}) {
    for (const std::int64_t ranks : job_.ranks) {
      if (ranks == 1) {
        module.ranks.push_back(module.whole);
        continue;
      }
      const DivisibleLayer layer{module.name, module.geometry, module.experts != 0, g_idx};
      module.ranks.push_back(plan_part(part_of_rank(layer, heads_, ranks, 0), ranks, module.experts, facts));
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
      module.whole = plan_part(undivided(module.geometry), 1, packed.experts, look);
    }
    plan_ranks(module, look, [&] { return g_idx_of(packed, checkpoint()); });
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
      module.whole = plan_part(undivided(module.geometry), 1, 0, none);
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

PlanReport run_plan(const PlanJob& job) {
  return Planner{job}();
}

}  // namespace mpk
