#include "cli/pipeline/quantize_output.hpp"

#include <algorithm>
#include <charconv>
#include <omp.h>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "cli/version.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

/// Of layers on their way to the disk and of source tensors on their way through the hash.
constexpr std::uint64_t kWaitingBytes = std::uint64_t{1} << 30;
/// Each has a second one beside it that hashes what it writes (checkpoint_writer.cpp).
constexpr int kMaxWriters = 4;

int num_writers() {
  return std::clamp(omp_get_max_threads() / 2, 1, kMaxWriters);
}

/// "model.layers.17.mlp.down_proj.weight" -> 17
std::optional<std::int64_t> layer_of(std::string_view tensor) {
  constexpr std::string_view kLayers = ".layers.";
  const auto found = tensor.find(kLayers);
  if (found == std::string_view::npos) return std::nullopt;
  const char* begin = tensor.data() + found + kLayers.size();
  std::int64_t layer = 0;
  const auto [end, error] = std::from_chars(begin, tensor.data() + tensor.size(), layer);
  if (error != std::errc{} || end == tensor.data() + tensor.size() || *end != '.') return std::nullopt;
  return layer;
}

/// Tensors in the source's name order, a quantized weight replaced by the parts that store it: neighbours
/// stay neighbours, so a layer's tensors share a shard as they did.
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

/// Of a solved linear that waits, and of what it is encoded to.
std::uint64_t bytes_held(const QuantizedMatrix& matrix, const std::vector<const WeightFormat*>& formats) {
  auto bytes = static_cast<std::uint64_t>(matrix.codes.size() + 4 * matrix.scales.size() +
                                          2 * matrix.zero_points.size());
  for (const WeightFormat* format : formats)
    for (const PartSpec& part : format->specs(matrix.scheme, matrix.k(), matrix.n()))
      bytes += num_bytes(part);
  return bytes;
}

}  // namespace

QuantizeOutput::QuantizeOutput(const QuantizeJob& job, const Checkpoint& source, SourcePlan& plan,
                               std::int64_t num_layers, const fs::path& directory)
    : job_{job},
      source_{source},
      plan_{plan},
      units_(static_cast<std::size_t>(num_layers + 1)),
      queue_{num_writers(), kWaitingBytes} {
  for (const WeightFormat* format : job.formats) {
    const fs::path own = job.formats.size() == 1 ? directory : directory / format->name;
    fs::create_directories(own);
    artifacts_.push_back(
        std::make_unique<ArtifactWriter>(own, output_specs(*format, plan), job.max_shard_bytes));
  }
  for (SourceTensor& tensor : plan.tensors) {
    const std::int64_t layer = layer_of(tensor.name).value_or(num_layers);
    units_[static_cast<std::size_t>(std::clamp<std::int64_t>(layer, 0, num_layers))].tensors.push_back(
        &tensor);
  }
}

void QuantizeOutput::write_rest() {
  copy_or_hash(units_.back());
}

void QuantizeOutput::write(std::int64_t layer, SolvedLinear solved) {
  const PlannedLayer& planned = plan_.layers.at(solved.module);
  ManifestLayer& record =
      units_.at(static_cast<std::size_t>(layer))
          .layers.emplace_back(ManifestLayer{
              solved.module, planned.scheme, planned.k, planned.n, {}, {}, solved.weight_error});
  if (job_.method->needs_hessian) {
    record.relative_loss = solved.result.relative_loss;
    record.damp = solved.result.damp;
  }
  record.input_scales = std::move(solved.folded.inputs);
  record.output_scales = std::move(solved.folded.outputs);
  const std::uint64_t bytes = bytes_held(solved.result.matrix, job_.formats);
  queue_.wait_for_room(bytes);
  const auto matrix = std::make_shared<QuantizedMatrix>(std::move(solved.result.matrix));
  queue_.push(bytes, [this, matrix, &record] {
    within("module " + record.module, [&] {
      record.codes_sha256 = sha256_of_codes(matrix->codes);
      for (std::size_t i = 0; i < artifacts_.size(); ++i) {
        const WeightFormat& format = *job_.formats[i];
        const auto parts =
            within(std::string{"format "} + format.name, [&] { return format.encode(*matrix); });
        for (const Part& part : parts)
          artifacts_[i]->write(record.tensor_name(part.suffix), part.tensor.view());
      }
    });
  });
}

void QuantizeOutput::end_layer(std::int64_t layer, const RewrittenNorms& norms) {
  Unit& unit = units_.at(static_cast<std::size_t>(layer));
  for (const auto& [name, values] : norms)
    rewrite(**std::ranges::find(unit.tensors, name, &SourceTensor::name), values);
  copy_or_hash(unit);
}

void QuantizeOutput::rewrite(SourceTensor& tensor, const Eigen::VectorXf& values) {
  const TensorView view = source_.tensor(tensor.name);
  Tensor rewritten{view.dtype, view.shape, std::vector<std::byte>(view.data.size())};
  for (Eigen::Index i = 0; i < values.size(); ++i)
    store_rounded(values(i), rewritten.dtype,
                  rewritten.data.data() + static_cast<std::size_t>(i) * bytes_of(rewritten.dtype));
  for (const auto& artifact : artifacts_) artifact->write(tensor.name, rewritten.view());
  tensor.fate = Fate::rescaled;
  tensor.reason = "divided by the input scales of the layers that read it";
}

void QuantizeOutput::copy_or_hash(Unit& unit) {
  for (SourceTensor* tensor : unit.tensors) {
    const TensorView view = source_.tensor(tensor->name);
    queue_.wait_for_room(view.data.size());
    queue_.push(view.data.size(), [this, tensor, view] {
      if (tensor->fate == Fate::copied) {
        for (const auto& artifact : artifacts_) artifact->write(tensor->name, view);
        tensor->sha256 = artifacts_.front()->sha256(tensor->name);
      } else {
        tensor->sha256 = sha256(view.data);
      }
      source_.release(tensor->name);
    });
  }
}

void QuantizeOutput::finish(const nlohmann::ordered_json& recipe,
                            const std::vector<std::int32_t>& sample_tokens) {
  queue_.drain();
  for (std::size_t i = 0; i < artifacts_.size(); ++i) {
    const WeightFormat& format = *job_.formats[i];
    artifacts_[i]->finish(
        source_, {format.quantization_config(schemes()), {}, {}},
        {kVersion, format.name, recipe, sample_tokens, layers_as(format), {}, plan_.tensors, {}});
  }
}

std::vector<ManifestLayer> QuantizeOutput::layers_as(const WeightFormat& format) const {
  std::vector<ManifestLayer> layers;
  for (const Unit& unit : units_)
    for (const ManifestLayer& layer : unit.layers) layers.emplace_back(layer).layout = format.name;
  return layers;
}

CheckpointSchemes QuantizeOutput::schemes() const {
  CheckpointSchemes schemes{job_.recipe.scheme, {}, {plan_.kept.begin(), plan_.kept.end()}};
  for (const auto& [module, layer] : plan_.layers)
    if (layer.scheme != job_.recipe.scheme) schemes.exceptions.emplace(module, layer.scheme);
  return schemes;
}

}  // namespace mpk
