#include <memory>
#include <omp.h>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/calibrate.hpp"
#include "cli/terminal.hpp"
#include "cli/window_options.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct CalibrateOptions {
  std::string source, destination, calibration, json;
  std::vector<std::string> merge;
  std::int64_t samples = 128, seq_len = 512;
  std::optional<std::uint64_t> seed;
  int threads = 0;
};

CalibrateReport run_one(const CalibrateOptions& o, const Progress& progress) {
  if (!o.merge.empty()) {
    if (!o.source.empty() || !o.calibration.empty())
      throw Error{ErrorKind::usage, "--merge adds files up; a checkpoint and --calibration make one"};
    return run_merge({o.merge.begin(), o.merge.end()}, o.destination, progress);
  }
  if (o.source.empty() || o.calibration.empty())
    throw Error{ErrorKind::usage, "a checkpoint and --calibration TEXT, or --merge FILES"};
  return run_calibrate({o.source, o.destination, o.calibration, o.samples, o.seq_len, o.seed}, progress);
}

void run(const CalibrateOptions& o) {
  if (o.threads > 0) omp_set_num_threads(o.threads);
  const Output out{o.json};
  ProgressDisplay display;
  const CalibrateReport report = run_one(o, display.callback());
  const auto& [forward, hessian] = report.seconds;
  out.line(fmt::format("statistics  {} inputs of linear layers, {} text{}: {}", report.groups, report.texts,
                       report.texts == 1 ? "" : "s", human_bytes(report.bytes)));
  if (o.merge.empty())
    out.line(fmt::format("time        {}: forward {:.1f}, Hessians {:.1f} s",
                         human_seconds(forward + hessian), forward, hessian));
  out.line("written     " + o.destination);
  out.json({{"groups", report.groups},
            {"texts", report.texts},
            {"bytes", report.bytes},
            {"seconds", {{"forward", forward}, {"hessian", hessian}}}});
}

}  // namespace

void add_calibrate(CLI::App& root) {
  auto o = std::make_shared<CalibrateOptions>();
  auto* cmd =
      root.add_subcommand("calibrate", "what the layers of a float checkpoint read, for quantize --stats");
  cmd->add_option("source", o->source, "checkpoint directory or .safetensors file");
  cmd->add_option("-o,--output", o->destination, "file to create; must not exist yet")->required();
  cmd->add_option("--calibration", o->calibration, "text, or token ids (.safetensors, .npy, .jsonl)");
  cmd->add_option("--merge", o->merge, "files to add up instead, made of one model with different texts");
  add_window_options(*cmd, o->samples, o->seq_len, o->seed);
  cmd->add_option("--threads", o->threads, "0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
