#include "cli/pipeline/source_plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbeddings = "model.embed_tokens.weight";

/// A pattern that matches nothing is a typing error. --ignore may also name tensors that are never quantized
/// (lm_head).
void require_match(const std::regex& pattern, const std::string& text, const char* option,
                   const std::vector<std::string>& names, const std::vector<std::string>& modules) {
  if (std::ranges::none_of(names, [&](const std::string& name) { return std::regex_search(name, pattern); }))
    throw Error{ErrorKind::usage, fmt::format("{} '{}' matches nothing; the linear layers have names like {}",
                                              option, text, modules.front())};
}

PlannedLayer plan_layer(const Checkpoint& source, const std::string& module, const Scheme& scheme) {
  const std::string name = module + ".weight";
  const TensorView tensor = source.tensor(name);
  if (tensor.shape.size() != 2 || tensor.shape[0] < 1 || tensor.shape[1] < 1)
    throw Error{ErrorKind::bad_input,
                fmt::format("{}: a linear layer's weight must be a matrix", source.where(name))};
  return {module, scheme, K{tensor.shape[1]}, N{tensor.shape[0]}};
}

/// What a tensor that is not quantized becomes.
SourceTensor plan_other(const Checkpoint& source, const std::string& name, bool tied_embeddings) {
  const TensorView tensor = source.tensor(name);
  SourceTensor result{name, tensor.dtype, tensor.shape, {}, Fate::copied, {}};
  if (name == kHead && tied_embeddings) {
    const bool same =
        source.contains(kEmbeddings) && std::ranges::equal(source.tensor(kEmbeddings).data, tensor.data);
    result.fate = same ? Fate::tied : Fate::dropped;
    result.reason = same ? fmt::format("stored once, as {}", kEmbeddings)
                         : "config.json ties lm_head to the embeddings, so no reader uses it";
  } else if (name.ends_with(".rotary_emb.inv_freq")) {
    result.fate = Fate::dropped;
    result.reason = "recomputed from config.json";
  }
  return result;
}

}  // namespace

SourcePlan plan_source(const Checkpoint& source, const std::vector<std::string>& modules,
                       const Recipe& recipe, bool tied_embeddings) {
  for (std::size_t i = 0; i < recipe.ignore.size(); ++i)
    require_match(recipe.ignore[i], recipe.ignore_text[i], "--ignore", source.names(), modules);
  for (const auto& row : recipe.overrides) require_match(row.pattern, row.text, "--layer", modules, modules);

  SourcePlan plan;
  for (const std::string& module : modules) {
    if (const auto scheme = recipe.scheme_of(module))
      plan.layers.emplace(module, plan_layer(source, module, *scheme));
    else
      plan.kept.push_back(module);
  }
  if (plan.layers.empty())
    throw Error{ErrorKind::usage,
                fmt::format("--ignore leaves none of the {} linear layers to quantize", modules.size())};
  for (const std::string& name : source.names()) {
    const std::string module = name.substr(0, name.size() - std::min(name.size(), sizeof(".weight") - 1));
    if (name.ends_with(".weight") && plan.layers.contains(module)) {
      const TensorView tensor = source.tensor(name);
      plan.tensors.push_back({name, tensor.dtype, tensor.shape, {}, Fate::quantized, {}});
    } else {
      plan.tensors.push_back(plan_other(source, name, tied_embeddings));
    }
  }
  return plan;
}

}  // namespace mpk
