#include "cli/pipeline/quantize.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/pipeline/calibration.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/quantize_output.hpp"
#include "cli/pipeline/quantize_plan.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "cli/pipeline/statistics_file.hpp"
#include "cli/pipeline/timer.hpp"
#include "cli/version.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"
#include "packer/io/partial_directory.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

nlohmann::ordered_json recipe_json(const QuantizeJob& job, const nlohmann::ordered_json& calibration) {
  const Scheme& scheme = job.recipe.scheme;
  nlohmann::ordered_json json{
      {"method", job.method->name},
      {"type", name_of(scheme.type)},
      {"group_size", group_size_number(scheme)},
      {"scale_dtype", info(scheme.scale_dtype).name},
      {"ranges", std::ranges::find(kRangeRules, job.options.ranges, &RangeRule::ranges)->name},
      {"signed_scales", job.options.signed_scales},
  };
  if (job.method->needs_hessian) json["true_sequential"] = job.true_sequential;
  if (job.method->needs_hessian && job.float_inputs) json["float_inputs"] = true;
  if (job.method->minimizes_error) {
    json["act_order"] = job.options.act_order == ActOrder::fixed_groups ? "static" : "none";
    json["damp"] = job.options.damp;
    json["target_correction"] = job.target_correction;
    json["descent_sweeps"] = job.options.descent_sweeps;
  }
  if (job.method->needs_hessian) json["calibration"] = calibration;
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

/// Tokens that a proof runs through the float model, at most: it runs on the CPU.
constexpr std::int64_t kSampleTokens = 512;

class Run {
 public:
  Run(const QuantizeJob& job, const Progress& progress)
      : job_{job},
        progress_{progress},
        model_{open_float_model(job.source)},
        plan_{plan_quantize(job, model_)} {
    nlohmann::ordered_json calibration;
    if (job.statistics)
      calibration = use_statistics();
    else if (job.method->needs_hessian)
      calibration = use_text();
    recipe_ = recipe_json(job, calibration);
    solver_ = make_layer_solver({job, model_, plan_, windows_, statistics_ ? &*statistics_ : nullptr},
                                report_.why_not_gpu);
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
  nlohmann::ordered_json use_text() {
    if (progress_) progress_("read calibration", 0, 1, "");
    const CalibrationText text{job_.calibration, job_.samples, job_.seq_len, job_.seed};
    windows_ = load_windows(text, model_.checkpoint.directory());
    sample_ = {windows_.begin(), windows_.begin() + std::min(job_.seq_len, kSampleTokens)};
    return calibration_json(text);
  }

  nlohmann::ordered_json use_statistics() {
    statistics_ = StatisticsFile::open(*job_.statistics);
    const StatisticsInfo& info = statistics_->info();
    if (info.model != model_fingerprint(model_.checkpoint))
      throw Error{ErrorKind::usage, fmt::format("{} holds the statistics of another model than {}",
                                                job_.statistics->string(), job_.source.string())};
    sample_ = info.sample_tokens;
    return info.calibrations.size() == 1 ? info.calibrations.front()
                                         : nlohmann::ordered_json(info.calibrations);
  }

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
    if (statistics_)
      json["statistics"] = {{"modified", modification_time(*job_.statistics)},
                            {"header_sha256", sha256(statistics_->header_bytes())}};
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
    report_.residual_errors.resize(static_cast<std::size_t>(num_layers));
    report_.resumed_layers = output.finished_layers();
    for (std::int64_t i = 0; i < output.finished_layers() && solver_->has_state(); ++i) {
      if (progress_) progress_("replay", i, output.finished_layers(), "");
      solver_->replay_layer(i, output.read_layer(i), output.read_norms(i));
      report_.residual_errors[static_cast<std::size_t>(i)] = solver_->residual_error();
    }
    for (std::int64_t i = output.finished_layers(); i < num_layers; ++i) {
      if (progress_) progress_("quantize", i, num_layers, "");
      const RewrittenNorms norms = solver_->solve_layer(
          i, [&](SolvedLinear solved) { timed([&] { output.write(i, std::move(solved)); }); });
      timed([&] { output.end_layer(i, norms); });
      report_.residual_errors[static_cast<std::size_t>(i)] = solver_->residual_error();
    }
    if (progress_) progress_("quantize", num_layers, num_layers, "");
    timed([&] { output.finish(recipe_, sample_); });
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
    report_.engine = solver_->name();
    report_.kept = plan_.kept;
    report_.damp_asked = job_.options.damp;
    report_.seconds.solver = solver_->seconds();
    report_.peak_gpu_bytes = solver_->peak_gpu_bytes();
  }

  const QuantizeJob& job_;
  const Progress& progress_;
  OpenModel model_;
  SourcePlan plan_;
  std::vector<std::int32_t> windows_, sample_;  ///< the calibration tokens; those of the proof
  std::optional<StatisticsFile> statistics_;
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
