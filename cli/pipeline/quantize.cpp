#include "cli/pipeline/quantize.hpp"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "cli/pipeline/calibration.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/quantize_output.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "cli/pipeline/timer.hpp"
#include "cli/version.hpp"
#include "model/linear_specs.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "packer/format/error.hpp"
#include "packer/io/partial_directory.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/io/sha256.hpp"

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

std::string modification_time(const fs::path& file) {
  return fmt::format("{}", fs::last_write_time(file).time_since_epoch().count());
}

/// Which checkpoint it is, as far as can be told without reading its tensors.
nlohmann::ordered_json source_identity(const Checkpoint& source) {
  nlohmann::ordered_json json;
  for (const std::string& shard : source.shards())
    json[shard] = {{"bytes", fs::file_size(source.directory() / shard)},
                   {"modified", modification_time(source.directory() / shard)},
                   {"header_sha256", sha256(source.header_bytes(shard))}};
  for (const std::string& file : source.side_files())
    json[file] = {{"sha256", sha256_of_file(source.directory() / file)}};
  return json;
}

OpenModel open_float_model(const fs::path& path) {
  OpenModel model = open_model(path);
  if (model.checkpoint.config().contains("quantization_config"))
    throw Error{ErrorKind::unsupported,
                fmt::format("{}: already quantized (its config.json has a quantization_config); "
                            "quantize starts from floating point",
                            path.string())};
  return model;
}

class Run {
 public:
  Run(const QuantizeJob& job, const Progress& progress)
      : job_{job},
        progress_{progress},
        model_{open_float_model(job.source)},
        plan_{plan_source(model_.checkpoint, module_names(model_.config), job.recipe,
                          model_.config.tied_embeddings)} {
    refuse_what_does_not_fit(job.formats, plan_);
    if (job.method->needs_hessian) {
      if (progress) progress("read calibration", 0, 1, "");
      windows_ = calibration_windows(load_tokens(job.calibration, model_.checkpoint.directory()), job.samples,
                                     job.seq_len, job.seed);
    }
    recipe_ = recipe_json(job);
    solver_ = make_layer_solver({job, model_, plan_, windows_});
  }

  QuantizeReport operator()(const Proof& prove) {
    PartialDirectory partial{job_.destination, job_.restart};
    const std::string frame =
        partial.path().string() +
        ", what an interrupted run left: repeat its command, or add --restart to begin anew";
    QuantizeJournal journal = within(frame, [&] { return QuantizeJournal{partial.journal()}; });
    within(frame, [&] { journal.require(identity()); });
    if (journal.finished().empty()) partial.remove_result();
    QuantizeOutput output = within(frame, [&] {
      return QuantizeOutput{
          job_,    model_.checkpoint,      plan_, model_.config.num_layers, partial.result(),
          journal, [&] { partial.keep(); }};
    });
    try {
      work(output);
      report(output);
      if (prove) prove(report_);
      partial.publish();
    } catch (Error& error) {
      if (would_fail_again(error.kind()))
        partial.discard();
      else if (partial.is_kept())
        error.in(kept_text(partial));
      throw;
    }
    for (auto& artifact : report_.artifacts)
      artifact.directory = job_.formats.size() == 1 ? job_.destination : job_.destination / artifact.format;
    return std::move(report_);
  }

 private:
  /// Another time, with the same source and recipe.
  static bool would_fail_again(ErrorKind kind) {
    return kind == ErrorKind::bad_input || kind == ErrorKind::unsupported || kind == ErrorKind::mismatch;
  }

  static std::string kept_text(const PartialDirectory& partial) {
    return fmt::format("a run whose finished layers stay in {}: the same command goes on after them",
                       partial.path().string());
  }

  /// Everything the artifacts' bytes depend on.
  nlohmann::ordered_json identity() const {
    nlohmann::ordered_json json{{"marlin_pack", kVersion},
                                {"engine", solver_->name()},
                                {"recipe", recipe_},
                                {"max_shard_size", job_.max_shard_bytes}};
    for (const WeightFormat* format : job_.formats) json["formats"].push_back(format->name);
    json["calibration_tokens"] = sha256(std::as_bytes(std::span{windows_}));
    json["source"] = source_identity(model_.checkpoint);
    return json;
  }

  void work(QuantizeOutput& output) {
    const auto timed = [&](auto step) {
      Timer timer{report_.seconds.write};
      step();
    };
    const std::int64_t num_layers = model_.config.num_layers;
    timed([&] { output.write_rest(); });
    report_.num_layers = num_layers;
    report_.resumed_layers = output.finished_layers();
    for (std::int64_t i = 0; i < output.finished_layers() && solver_->has_state(); ++i) {
      if (progress_) progress_("replay", i, output.finished_layers(), "");
      solver_->replay_layer(i, output.read_layer(i), output.read_norms(i));
    }
    for (std::int64_t i = output.finished_layers(); i < num_layers; ++i) {
      if (progress_) progress_("quantize", i, num_layers, "");
      const RewrittenNorms norms = solver_->solve_layer(
          i, [&](SolvedLinear solved) { timed([&] { output.write(i, std::move(solved)); }); });
      timed([&] { output.end_layer(i, norms); });
    }
    if (progress_) progress_("quantize", num_layers, num_layers, "");
    timed([&] {
      const auto sample = std::min<std::ptrdiff_t>(std::ssize(windows_), job_.seq_len);
      output.finish(recipe_, {windows_.begin(), windows_.begin() + sample});
    });
  }

  void report(const QuantizeOutput& output) {
    for (const SourceTensor& tensor : plan_.tensors)
      report_.source_bytes += tensor_bytes(tensor.dtype, tensor.shape);
    for (std::size_t i = 0; i < job_.formats.size(); ++i) {
      const ArtifactWriter& writer = *output.artifacts()[i];
      report_.artifacts.push_back(
          {job_.formats[i]->name, writer.directory(), writer.tensor_bytes(), writer.num_shards()});
    }
    report_.layers = output.layers();
    report_.kept = plan_.kept;
    report_.damp_asked = job_.options.damp;
    report_.seconds.solver = solver_->seconds();
  }

  const QuantizeJob& job_;
  const Progress& progress_;
  OpenModel model_;
  SourcePlan plan_;
  std::vector<std::int32_t> windows_;
  nlohmann::ordered_json recipe_;
  std::unique_ptr<LayerSolver> solver_;
  QuantizeReport report_;
};

}  // namespace

QuantizeReport run_quantize(const QuantizeJob& job, const Proof& prove, const Progress& progress) {
  Run run{job, progress};
  return run(prove);
}

}  // namespace mpk
