#include <memory>
#include <omp.h>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/evaluate.hpp"
#include "cli/terminal.hpp"

namespace mpk {
namespace {

struct EvalOptions {
  std::string model, text, against, json, device = "auto", gpu_compute = "float32";
  std::int64_t seq_len = 512;
  int threads = 0;
};

nlohmann::ordered_json perplexity_json(const EvalOptions& o, const Perplexity& result) {
  return {{"perplexity", result.value},
          {"text", std::filesystem::path{o.text}.filename().string()},
          {"windows", result.windows},
          {"seq_len", o.seq_len},
          {"predictions", result.predictions}};
}

EvaluationDevice where(const EvalOptions& o) {
  return {device_named(o.device), gpu_compute_named(o.gpu_compute)};
}

std::string conditions(const EvalOptions& o, const Perplexity& result) {
  return fmt::format("on {}: {} windows of {} tokens, {} predictions",
                     std::filesystem::path{o.text}.filename().string(), result.windows, o.seq_len,
                     result.predictions);
}

void run_alone(const EvalOptions& o, const Output& out) {
  Perplexity result;
  {
    ProgressDisplay display;
    result = evaluate(o.model, o.text, o.seq_len, where(o), display.callback());
  }
  out.line(fmt::format("perplexity  {:.4f} {}", result.value, conditions(o, result)));
  out.json(perplexity_json(o, result));
}

void run_against(const EvalOptions& o, const Output& out) {
  Comparison result;
  {
    ProgressDisplay display;
    result = evaluate_against(o.model, o.against, o.text, o.seq_len, where(o), display.callback());
  }
  const Divergence& kl = result.divergence;
  out.line(fmt::format("perplexity  {:.4f} against {:.4f} ({:+.3f} %) {}", result.model.value,
                       result.reference.value, 100.0 * (result.model.value / result.reference.value - 1.0),
                       conditions(o, result.model)));
  out.line(fmt::format("divergence  mean {:.6f} +- {:.6f} nats, 99th percentile {:.5f}, largest {:.4f}",
                       kl.mean, kl.standard_error, kl.percentile_99, kl.largest));
  out.line(fmt::format("agreement   {:.3f} % of the tokens ranked first", 100.0 * kl.top1_agreement));
  nlohmann::ordered_json json = perplexity_json(o, result.model);
  json["against"] = {{"model", std::filesystem::path{o.against}.filename().string()},
                     {"perplexity", result.reference.value},
                     {"kl_mean", kl.mean},
                     {"kl_standard_error", kl.standard_error},
                     {"kl_percentile_99", kl.percentile_99},
                     {"kl_largest", kl.largest},
                     {"top1_agreement", kl.top1_agreement}};
  out.json(json);
}

void run(const EvalOptions& o) {
  if (o.threads > 0) omp_set_num_threads(o.threads);
  const Output out{o.json};
  if (o.against.empty())
    run_alone(o, out);
  else
    run_against(o, out);
}

}  // namespace

void add_eval(CLI::App& root) {
  auto o = std::make_shared<EvalOptions>();
  auto* cmd = root.add_subcommand("eval", "perplexity of a float or packed checkpoint");
  cmd->add_option("model", o->model, "checkpoint directory")->required();
  cmd->add_option("--text", o->text, "text, or token ids (.safetensors, .npy, .jsonl)")->required();
  cmd->add_option("--against", o->against,
                  "another checkpoint (the float model): adds the KL divergence from its predictions");
  cmd->add_option("--seq-len", o->seq_len, "tokens per window, each scored alone")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->capture_default_str();
  cmd->add_option("--device", o->device)
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  cmd->add_option("--gpu-compute", o->gpu_compute, "what the GPU multiplies; sums are float32")
      ->check(CLI::IsMember({"bfloat16", "float16", "float32"}))
      ->capture_default_str();
  cmd->add_option("--threads", o->threads, "0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
