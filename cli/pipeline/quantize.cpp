#include "cli/pipeline/quantize.hpp"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "cli/pipeline/artifact_writer.hpp"
#include "cli/pipeline/calibration.hpp"
#include "cli/pipeline/fold_scales.hpp"
#include "cli/pipeline/layer_calibration.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "cli/pipeline/timer.hpp"
#include "cli/version.hpp"
#include "model/linear_specs.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/io/sha256.hpp"
#include "quantizer/target.hpp"
#include "verify/weight_error.hpp"

namespace mpk {
namespace fs = std::filesystem;
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

nlohmann::ordered_json recipe_json(const QuantizeJob& job) {
  const Scheme& scheme = job.recipe.scheme;
  nlohmann::ordered_json json{
      {"method", job.method->name},
      {"type", name_of(scheme.type)},
      {"group_size", group_size_number(scheme)},
      {"scale_dtype", info(scheme.scale_dtype).name},
      {"ranges", std::ranges::find(kRangeRules, job.options.ranges, &RangeRule::ranges)->name},
      {"signed_scales", job.options.signed_scales},
  };
  if (job.method->needs_hessian) {
    json["true_sequential"] = job.true_sequential;
  }
  if (job.method->minimizes_error) {
    json["act_order"] = job.options.act_order == ActOrder::fixed_groups ? "static" : "none";
    json["damp"] = job.options.damp;
    json["target_correction"] = job.target_correction;
    json["descent_sweeps"] = job.options.descent_sweeps;
  }
  if (job.method->needs_hessian) {
    json["calibration"] = {{"file", job.calibration.filename().string()},
                           {"sha256", sha256_of_file(job.calibration)},
                           {"samples", job.samples},
                           {"seq_len", job.seq_len}};
    if (job.seed) json["calibration"]["seed"] = *job.seed;
  }
  json["ignore"] = job.recipe.ignore_text;
  json["layer"] = nlohmann::ordered_json::array();
  for (const auto& row : job.recipe.overrides) json["layer"].push_back(row.text);
  return json;
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

/// One format's artifact while its layers come in.
struct OpenArtifact {
  const WeightFormat* format;
  ArtifactWriter writer;
  std::vector<ManifestLayer> layers = {};

  /// `record` comes without its layout.
  void write_layer(ManifestLayer record, const QuantizedMatrix& matrix) {
    record.layout = format->name;
    for (const Part& part : within("format " + record.layout, [&] { return format->encode(matrix); }))
      writer.write(record.tensor_name(part.suffix), part.tensor.view());
    layers.push_back(std::move(record));
  }
};

/// The state of one run: everything a layer's turn reads and changes.
class Run {
 public:
  Run(const QuantizeJob& job, const Progress& progress)
      : job_{job},
        progress_{progress},
        model_{open_float_model(job.source)},
        decoder_{model_.config, *model_.weights},
        plan_{plan_source(model_.checkpoint, module_names(model_.config), job.recipe,
                          model_.config.tied_embeddings)} {
    refuse_what_does_not_fit(job.formats, plan_);
  }

  QuantizeReport operator()(const Proof& prove) {
    if (job_.method->needs_hessian) load_windows();
    StagingDirectory staging{job_.destination};
    open_artifacts(staging.path());
    for (std::int64_t i = 0; i < model_.config.num_layers; ++i) {
      if (progress_) progress_("quantize", i, model_.config.num_layers, "");
      quantize_layer(i);
    }
    if (progress_) progress_("quantize", model_.config.num_layers, model_.config.num_layers, "");
    finish_artifacts();
    if (prove) prove(report_);
    staging.publish();
    for (auto& artifact : report_.artifacts)
      artifact.directory = job_.formats.size() == 1 ? job_.destination : job_.destination / artifact.format;
    return std::move(report_);
  }

 private:
  static OpenModel open_float_model(const fs::path& path) {
    OpenModel model = open_model(path);
    if (model.checkpoint.config().contains("quantization_config"))
      throw Error{ErrorKind::unsupported,
                  fmt::format("{}: already quantized (its config.json has a quantization_config); "
                              "quantize starts from floating point",
                              path.string())};
    return model;
  }

  bool corrects_targets() const { return job_.method->minimizes_error && job_.target_correction > 0; }

  void load_windows() {
    if (progress_) progress_("read calibration", 0, 1, "");
    windows_ = calibration_windows(load_tokens(job_.calibration, model_.checkpoint.directory()), job_.samples,
                                   job_.seq_len, job_.seed);
    Timer timer{report_.seconds.calibration.forward};
    activations_.x = decoder_.embed(windows_);
    if (corrects_targets()) activations_.float_x = activations_.x;
  }

  void open_artifacts(const fs::path& staging) {
    for (const WeightFormat* format : job_.formats) {
      const fs::path directory = job_.formats.size() == 1 ? staging : staging / format->name;
      fs::create_directories(directory);
      artifacts_.emplace_back(
          new OpenArtifact{format, {directory, output_specs(*format, plan_), job_.max_shard_bytes}});
    }
  }

  void quantize_layer(std::int64_t index) {
    DecoderLayer layer = [&] {
      Timer timer{report_.seconds.load};
      return decoder_.load_layer(index);
    }();
    const auto wanted = [&](const std::string& module) { return plan_.layers.contains(module); };
    if (!job_.method->needs_hessian) {
      for (Linear* linear : layer.linears())
        if (wanted(linear->module)) quantize_linear(*linear, nullptr);
      return;
    }
    LayerCalibration calibration{model_.config, job_.seq_len, wanted, report_.seconds.calibration};
    folded_ = {};
    if (job_.method->scales_inputs) fold(layer, calibration);
    const auto quantize = [&](Linear& linear, const InputStatistics& seen) {
      quantize_linear(linear, &seen);
    };
    if (job_.true_sequential)
      calibration.by_groups(layer, activations_, quantize);
    else
      calibration.at_once(layer, activations_, quantize);
  }

  void fold(DecoderLayer& layer, LayerCalibration& calibration) {
    const GroupStatistics seen = calibration.observe(layer, activations_);
    {
      Timer timer{report_.seconds.solve};
      folded_ = fold_awq_scales(
          layer, model_.config, seen,
          [&](const std::string& module) {
            const auto it = plan_.layers.find(module);
            return it == plan_.layers.end() ? std::nullopt : std::optional{it->second.scheme};
          },
          [&](const std::string& name) { return model_.checkpoint.tensor(name).dtype; }, job_.options);
    }
    Timer timer{report_.seconds.write};
    for (const auto& [name, values] : folded_.norms) {
      const TensorView source = model_.checkpoint.tensor(name);
      Tensor tensor{source.dtype, source.shape, std::vector<std::byte>(source.data.size())};
      for (Eigen::Index i = 0; i < values.size(); ++i)
        store_rounded(values(i), tensor.dtype,
                      tensor.data.data() + static_cast<std::size_t>(i) * bytes_of(tensor.dtype));
      for (auto& artifact : artifacts_) artifact->writer.write(name, tensor.view());
      SourceTensor& record = *std::ranges::find(plan_.tensors, name, &SourceTensor::name);
      record.fate = Fate::rescaled;
      record.reason = "divided by the input scales of the layers that read it";
    }
  }

  /// `seen` is null for methods that need no data.
  QuantizedLinear solve(const Linear& linear, const InputStatistics* seen, const QuantizerOptions& options) {
    Timer timer{report_.seconds.solve};
    if (!seen) return job_.method->run({linear.weight, nullptr}, options);
    if (!corrects_targets()) return job_.method->run({linear.weight, &seen->hessian}, options);
    const MatrixF target =
        corrected_target(linear.weight, seen->hessian, seen->error, job_.target_correction, options.damp);
    return job_.method->run({target, &seen->hessian}, options);
  }

  void quantize_linear(Linear& linear, const InputStatistics* seen) {
    within("module " + linear.module, [&] {
      const PlannedLayer& planned = plan_.layers.at(linear.module);
      QuantizerOptions options = job_.options;
      options.scheme = planned.scheme;
      const QuantizedLinear result = solve(linear, seen, options);
      MatrixF decoded = dequantize(result.matrix);
      ManifestLayer record{linear.module,
                           planned.scheme,
                           planned.k,
                           planned.n,
                           {},
                           sha256_of_codes(result.matrix.codes),
                           weight_error(linear.weight, decoded)};
      if (seen) {
        record.relative_loss = result.relative_loss;
        record.damp = result.damp;
      }
      if (const auto it = folded_.linears.find(linear.module); it != folded_.linears.end()) {
        record.input_scales = it->second.inputs;
        record.output_scales = it->second.outputs;
      }
      linear.weight = std::move(decoded);
      Timer timer{report_.seconds.write};
      for (auto& artifact : artifacts_) artifact->write_layer(record, result.matrix);
    });
  }

  void finish_artifacts() {
    Timer timer{report_.seconds.write};
    for (SourceTensor& tensor : plan_.tensors) {
      const TensorView view = model_.checkpoint.tensor(tensor.name);
      report_.source_bytes += view.data.size();
      tensor.sha256 = sha256(view.data);
      if (tensor.fate == Fate::copied)
        for (auto& artifact : artifacts_) artifact->writer.write(tensor.name, view);
    }
    std::vector<std::int32_t> sample(
        windows_.begin(), windows_.begin() + std::min<std::ptrdiff_t>(std::ssize(windows_), job_.seq_len));
    const nlohmann::ordered_json recipe = recipe_json(job_);  // once: it hashes the calibration file
    for (auto& artifact : artifacts_) {
      ArtifactWriter& writer = artifact->writer;
      writer.finish(
          model_.checkpoint, {artifact->format->quantization_config(schemes()), {}, {}},
          {kVersion, artifact->format->name, recipe, sample, artifact->layers, {}, plan_.tensors, {}});
      report_.artifacts.push_back(
          {artifact->format->name, writer.directory(), writer.tensor_bytes(), writer.num_shards()});
    }
    report_.layers = artifacts_.front()->layers;
    report_.kept = plan_.kept;
    report_.damp_asked = job_.options.damp;
  }

  CheckpointSchemes schemes() const {
    CheckpointSchemes schemes{job_.recipe.scheme, {}, {plan_.kept.begin(), plan_.kept.end()}};
    for (const auto& [module, layer] : plan_.layers)
      if (layer.scheme != job_.recipe.scheme) schemes.exceptions.emplace(module, layer.scheme);
    return schemes;
  }

  const QuantizeJob& job_;
  const Progress& progress_;
  OpenModel model_;
  Decoder decoder_;
  SourcePlan plan_;
  std::vector<std::int32_t> windows_;
  FoldedLayer folded_;       ///< of the layer whose turn it is
  Activations activations_;  ///< before the layer whose turn it is
  std::vector<std::unique_ptr<OpenArtifact>> artifacts_;
  QuantizeReport report_;
};

}  // namespace

QuantizeReport run_quantize(const QuantizeJob& job, const Proof& prove, const Progress& progress) {
  Run run{job, progress};
  return run(prove);
}

}  // namespace mpk
