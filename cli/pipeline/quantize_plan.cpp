#include "cli/pipeline/quantize_plan.hpp"

#include <string>

#include <fmt/format.h>

#include "cli/pipeline/artifact_writer.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

std::vector<std::string> module_names(const DecoderConfig& config) {
  std::vector<std::string> names;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    for (const LinearSpec& spec : linear_specs(config, layer)) names.push_back(spec.module);
  return names;
}

void refuse_what_does_not_fit(const std::vector<const WeightFormat*>& formats, const SourcePlan& plan) {
  for (const WeightFormat* format : formats) {
    std::vector<std::string> reasons;
    for (const auto& [module, layer] : plan.layers)
      if (const auto reason = format->refusal(layer.scheme, layer.k, layer.n))
        reasons.push_back(fmt::format("{}: {}", module, *reason));
    if (!reasons.empty())
      throw Error{
          ErrorKind::unsupported,
          fmt::format(
              "format {} cannot hold {} of {} layers; the first: {}\n  choose another --format, another "
              "--group-size for them (--layer), or keep them in floating point (--ignore)",
              format->name, reasons.size(), plan.layers.size(), reasons.front())};
  }
}

}  // namespace

SourcePlan plan_quantize(const QuantizeJob& job, const OpenModel& model) {
  SourcePlan plan =
      plan_source(model.checkpoint, module_names(model.config), job.recipe, model.config.tied_embeddings);
  refuse_what_does_not_fit(job.formats, plan);
  return plan;
}

std::vector<TensorSpec> output_specs(const WeightFormat& format, const SourcePlan& plan) {
  std::vector<TensorSpec> specs;
  for (const SourceTensor& tensor : plan.tensors) {
    if (tensor.fate == Fate::copied) specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    if (tensor.fate != Fate::quantized) continue;
    const PlannedLayer& layer = plan.layers.at(tensor.name.substr(0, tensor.name.rfind('.')));
    add_specs(specs, {layer.module, layer.scheme, layer.k, layer.n, format.name, {}},
              format.specs(layer.scheme, layer.k, layer.n));
  }
  return specs;
}

}  // namespace mpk
