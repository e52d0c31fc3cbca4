#include <memory>
#include <omp.h>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/evaluate.hpp"
#include "cli/terminal.hpp"

namespace mpk {
namespace {

struct EvalOptions {
  std::string model, text, json;
  std::int64_t seq_len = 512;
  int threads = 0;
};

void run(const EvalOptions& o) {
  if (o.threads > 0) omp_set_num_threads(o.threads);
  const Output out{o.json};
  Perplexity result;
  {
    ProgressDisplay display;
    result = evaluate(o.model, o.text, o.seq_len, display.callback());
  }
  const std::string name = std::filesystem::path{o.text}.filename().string();
  out.line(fmt::format("perplexity  {:.4f} on {}: {} windows of {} tokens, {} predictions", result.value,
                       name, result.windows, o.seq_len, result.predictions));
  out.json({{"perplexity", result.value},
            {"text", name},
            {"windows", result.windows},
            {"seq_len", o.seq_len},
            {"predictions", result.predictions}});
}

}  // namespace

void add_eval(CLI::App& root) {
  auto o = std::make_shared<EvalOptions>();
  auto* cmd = root.add_subcommand("eval", "perplexity of a float or packed checkpoint");
  cmd->add_option("model", o->model, "checkpoint directory")->required();
  cmd->add_option("--text", o->text, "text, or token ids (.safetensors, .npy, .jsonl)")->required();
  cmd->add_option("--seq-len", o->seq_len, "tokens per window, each scored alone")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->capture_default_str();
  cmd->add_option("--threads", o->threads, "0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
