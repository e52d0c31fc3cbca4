#include <memory>
#include <omp.h>
#include <set>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/evaluate.hpp"
#include "cli/pipeline/quantize.hpp"
#include "cli/pipeline/quantize_estimate.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "cli/recipe_file.hpp"
#include "cli/reports.hpp"
#include "cli/terminal.hpp"
#include "cli/window_options.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct QuantizeOptions {
  std::string source, destination, method = "gptq", act_order = "static", ranges = "mse", device = "auto",
                                   json;
  std::string recipe, calibration, eval_text, scale_dtype = "float16";
  std::vector<std::string> formats{"marlin"}, ignore, layers;
  int bits = 4, threads = 0;
  std::int64_t group_size = 128, samples = 128, seq_len = 512;
  std::uint64_t max_shard_size = 5'000'000'000;
  std::string gpu_compute = "auto";
  std::optional<std::int64_t> gpu_memory, host_memory;
  std::optional<std::uint64_t> seed;
  double damp = 0.01, target_correction = 0.5;
  int descent = 4;
  std::string statistics;
  bool float_inputs = false, dry_run = false;
  bool restart = false, verify = true, true_sequential = true, signed_scales = true, asymmetric = false;
};

std::vector<std::string> range_rule_names() {
  std::vector<std::string> names;
  for (const RangeRule& rule : kRangeRules) names.emplace_back(rule.name);
  return names;
}

QuantizeJob job_from(const QuantizeOptions& o) {
  QuantizeJob job;
  job.source = o.source;
  job.destination = o.destination;
  std::set<std::string> seen;
  for (const std::string& name : o.formats)
    if (seen.insert(name).second) job.formats.push_back(weight_format_named(name));
  for (const Method& method : methods())
    if (o.method == method.name) job.method = &method;
  job.recipe.scheme.group_size = group_size_from(o.group_size);
  job.recipe.scheme.scale_dtype = o.scale_dtype == "bfloat16" ? DType::BF16 : DType::F16;
  job.recipe.scheme = with_codes(job.recipe.scheme, checked_bits(o.bits), o.asymmetric);
  job.recipe.ignore_text = o.ignore;
  for (const std::string& text : o.ignore) job.recipe.ignore.push_back(parse_regex(text, "--ignore"));
  for (const std::string& text : o.layers) job.recipe.overrides.push_back(parse_layer_override(text));
  job.options.act_order = o.act_order == "static" ? ActOrder::fixed_groups : ActOrder::none;
  for (const RangeRule& rule : kRangeRules)
    if (o.ranges == rule.name) job.options.ranges = rule.ranges;
  job.options.damp = o.damp;
  job.options.signed_scales = o.signed_scales;
  job.options.descent_sweeps = o.descent;
  job.true_sequential = o.true_sequential;
  job.target_correction = o.target_correction;
  job.calibration = o.calibration;
  job.samples = o.samples;
  job.seq_len = o.seq_len;
  job.seed = o.seed;
  job.max_shard_bytes = o.max_shard_size;
  job.device = device_named(o.device);
  job.restart = o.restart;
  if (o.gpu_compute != "auto") job.gpu_compute = gpu_compute_named(o.gpu_compute);
  job.gpu_memory = o.gpu_memory;
  job.host_memory = o.host_memory;
  job.float_inputs = o.float_inputs || !o.statistics.empty();
  if (!o.statistics.empty()) job.statistics = o.statistics;
  if (job.method->needs_hessian && o.calibration.empty() && !job.statistics)
    throw Error{
        ErrorKind::usage,
        fmt::format("--method {} needs --calibration TEXT or --stats FILE (rtn needs none)", o.method)};
  if (job.statistics && !job.method->needs_hessian)
    throw Error{ErrorKind::usage, fmt::format("--method {} has no use for --stats", o.method)};
  return job;
}

/// Options that need the quantized model to run do not go with those that take the float model's inputs: they
/// are refused if they were given, and switched off if they are only the default. Returns what was switched
/// off.
std::string settle_inputs(const CLI::App& cmd, QuantizeOptions& o) {
  const bool saved = !o.statistics.empty();
  if (!saved && !o.float_inputs) return {};
  const char* option = saved ? "--stats" : "--float-inputs";
  const auto refuse = [&](const char* name, bool is_on) {
    if (is_on && cmd.get_option(name)->count() > 0)
      throw Error{
          ErrorKind::usage,
          fmt::format("{} does not go with {}, which solves every layer for its inputs in the float model",
                      name, option)};
  };
  refuse("--true-sequential", o.true_sequential);
  refuse("--target-correction", o.target_correction > 0);
  if (saved)
    for (const char* name : {"--calibration", "--samples", "--seed"}) refuse(name, true);
  std::string lowered;
  if (o.true_sequential) lowered += "--no-true-sequential";
  if (o.target_correction > 0) lowered += fmt::format("{}--target-correction 0", lowered.empty() ? "" : " ");
  o.true_sequential = false;
  o.target_correction = 0;
  return lowered.empty()
             ? ""
             : fmt::format("{} solves every layer for its inputs in the float model: {}", option, lowered);
}

void compare_perplexity(const QuantizeOptions& o, const QuantizeReport& report, ProgressDisplay& display,
                        const Output& out, nlohmann::ordered_json& json) {
  const EvaluationDevice where{device_named(o.device)};
  const Perplexity before = evaluate(o.source, o.eval_text, o.seq_len, where, display.callback());
  json["perplexity"]["float"] = before.value;
  for (const auto& artifact : report.artifacts) {
    const Perplexity after = evaluate(artifact.directory, o.eval_text, o.seq_len, where, display.callback());
    json["perplexity"][artifact.format] = after.value;
    out.line(fmt::format("perplexity  {:.3f} -> {:.3f} ({:+.2f} %) as {} on {}, {} windows of {} tokens",
                         before.value, after.value, 100.0 * (after.value / before.value - 1.0),
                         artifact.format, std::filesystem::path{o.eval_text}.filename().string(),
                         after.windows, o.seq_len));
  }
}

/// After the run, before the proof: how good the estimate was.
void compare(const QuantizeEstimate& estimate, const QuantizeReport& report, const Output& out,
             nlohmann::ordered_json& json) {
  const SolverSeconds& s = report.seconds.solver;
  const double seconds =
      s.load + s.calibration.forward + s.calibration.hessian + s.solve + report.seconds.write;
  const std::uint64_t memory = peak_memory();
  json["measured"] = {{"seconds", seconds}, {"memory_bytes", memory}};
  const std::string time =
      report.resumed_layers > 0 ? "for all layers" : fmt::format("took {}", human_seconds(seconds));
  out.line(fmt::format("estimate    {}, {}; memory {}, peak {}", human_seconds(estimate.seconds.total()),
                       time, human_bytes(estimate.memory_bytes), human_bytes(memory)));
}

void run(const CLI::App& cmd, QuantizeOptions& o) {
  if (o.threads > 0) omp_set_num_threads(o.threads);
  const std::string lowered = settle_inputs(cmd, o);
  const QuantizeJob job = job_from(o);
  decide_gpu(job.device);  // a missing GPU is better known now than after the work
  const Output out{o.json};
  if (!lowered.empty()) out.line("note        " + lowered);
  nlohmann::ordered_json json;
  const QuantizeEstimate estimate = estimate_quantize(job);
  json["estimate"] = to_json(estimate);
  if (o.dry_run) {
    print_estimate(estimate, out);
    out.json(json);
    return;
  }
  ProgressDisplay display;

  const auto prove = [&](const QuantizeReport& report) {
    print_quantize(report, out);
    compare(estimate, report, out, json);
    if (!o.verify) return;
    for (const auto& artifact : report.artifacts) {
      VerifyJob verify;
      verify.artifact = artifact.directory;
      verify.source = job.source;
      verify.device = job.device;
      const VerifyReport verdict = run_verify(verify, display.callback());
      print_verdict(verdict, out);
      json["verify"][artifact.format] = to_json(verdict);
      if (!verdict.passed())
        throw Error{ErrorKind::mismatch,
                    fmt::format("the {} artifact did not pass its verification; nothing was written to {}",
                                artifact.format, o.destination)};
    }
  };
  const QuantizeReport report = run_quantize(job, prove, display.callback());
  json["quantize"] = to_json(report);  // now: while it was proven, the artifact stood elsewhere
  for (const auto& artifact : report.artifacts) out.line("written     " + artifact.directory.string());
  if (!o.eval_text.empty()) compare_perplexity(o, report, display, out, json);
  out.json(json);
}

}  // namespace

void add_quantize(CLI::App& root) {
  auto o = std::make_shared<QuantizeOptions>();  // lives as long as the callback
  auto* cmd = root.add_subcommand("quantize", "float checkpoint -> quantized, packed, proven checkpoint");
  std::vector<std::string> method_names, format_names;
  for (const Method& method : methods()) method_names.emplace_back(method.name);
  for (const WeightFormat& format : weight_formats())
    if (format.writes()) format_names.emplace_back(format.name);

  cmd->add_option("source", o->source, "checkpoint directory or .safetensors file")->required();
  cmd->add_option("-o,--output", o->destination, "directory to create; must not exist yet")->required();
  cmd->add_option("--recipe", o->recipe,
                  "JSON with the options below, or an artifact's marlin_pack.json; options given here win");
  cmd->add_option("--method", o->method)->check(CLI::IsMember(method_names))->capture_default_str();
  cmd->add_option("--bits", o->bits)->check(CLI::IsMember({4, 8}))->capture_default_str();
  cmd->add_option("--group-size", o->group_size, "weights per scale; -1: one scale per output")
      ->check(CLI::IsMember({32, 64, 128, -1}))
      ->capture_default_str();
  cmd->add_option("--act-order", o->act_order, "static: solve columns by falling Hessian diagonal")
      ->check(CLI::IsMember({"none", "static"}))
      ->capture_default_str();
  cmd->add_flag("--asymmetric", o->asymmetric,
                "codes with a zero point per group, for formats that store them");
  cmd->add_option("--ranges", o->ranges,
                  "mse: search each group's range; hessian: the same, inputs weighed by the data")
      ->check(CLI::IsMember(range_rule_names()))
      ->capture_default_str();
  cmd->add_flag("--signed-scales,!--no-signed-scales", o->signed_scales,
                "scales may be negative: a group's larger side gets the longer reach (default)");
  cmd->add_flag(
      "--true-sequential,!--no-true-sequential", o->true_sequential,
      "gptq: calibrate each group of linears on the quantized ones before it, inside a layer too (default)");
  cmd->add_option("--target-correction", o->target_correction,
                  "gptq: part of the earlier layers' error that each layer is asked to make up for; 0: off")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  cmd->add_option("--descent", o->descent,
                  "gptq: sweeps of coordinate descent over codes and scales afterwards; 0: off")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  cmd->add_option("--calibration", o->calibration,
                  "text, or token ids (.safetensors, .npy, .jsonl), for methods that need data");
  add_window_options(*cmd, o->samples, o->seq_len, o->seed);
  cmd->add_flag("--float-inputs", o->float_inputs,
                "solve every layer for what it reads in the float model instead of the one quantized so far");
  cmd->add_option(
      "--stats", o->statistics,
      "what calibrate saved, instead of --calibration: nothing has to run; implies --float-inputs");
  cmd->add_option("--damp", o->damp, "added to the Hessian's diagonal, in units of its mean")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  cmd->add_option("--ignore", o->ignore,
                  "regular expression of modules to keep in floating point; repeatable");
  cmd->add_option("--layer", o->layers,
                  "REGEX=bits:8,group:64,asymmetric:1 for some modules; repeatable, the last match wins");
  cmd->add_option("--format", o->formats,
                  "one or more, comma separated; several are written to DIR/FORMAT each")
      ->delimiter(',')
      ->check(CLI::IsMember(format_names))
      ->capture_default_str();
  cmd->add_option("--scale-dtype", o->scale_dtype)
      ->check(CLI::IsMember({"float16", "bfloat16"}))
      ->capture_default_str();
  cmd->add_option("--max-shard-size", o->max_shard_size, "bytes, or 500MB, 5GB")
      ->transform(CLI::AsSizeValue(true))
      ->capture_default_str();
  cmd->add_flag(
      "--restart", o->restart,
      "begin anew where an interrupted run left OUTPUT.partial, instead of going on after its last layer");
  cmd->add_flag("--dry-run", o->dry_run,
                "print layers, sizes, memory and time, exactly or as an estimate, and stop before any work");
  cmd->add_option("--eval", o->eval_text, "text to measure perplexity on, before and after");
  cmd->add_flag("--verify,!--no-verify", o->verify, "prove the artifact after writing it (default)");
  cmd->add_option("--device", o->device, "where layers are solved and the proof runs its GEMM")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  cmd->add_option("--gpu-memory", o->gpu_memory, "what solving on the GPU may take, as 6GiB; default: 24GiB")
      ->transform(CLI::AsSizeValue(false));
  cmd->add_option("--host-memory", o->host_memory,
                  "what the activations that find no room there may take; default: no limit")
      ->transform(CLI::AsSizeValue(false));
  cmd->add_option("--gpu-compute", o->gpu_compute,
                  "what the GPU multiplies, sums being float32; auto: the type of the checkpoint's weights")
      ->check(CLI::IsMember({"auto", "bfloat16", "float16", "float32"}))
      ->capture_default_str();
  cmd->add_option("--threads", o->threads, "0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o, cmd] {
    if (!o->recipe.empty()) apply_recipe_file(*cmd, o->recipe);
    run(*cmd, *o);
  });
}

}  // namespace mpk
