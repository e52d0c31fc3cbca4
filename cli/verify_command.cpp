#include <memory>
#include <omp.h>

#include "cli/commands.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "cli/reports.hpp"
#include "cli/terminal.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct VerifyOptions {
  std::string artifact, against, device = "auto", json;
  std::vector<std::string> shapes;
  std::vector<std::int64_t> rows{1, 16, 100};
  std::uint64_t seed = 1;
  int threads = 0;
};

void run(const VerifyOptions& o) {
  if (o.threads > 0) omp_set_num_threads(o.threads);
  if (o.artifact.empty() == o.shapes.empty())
    throw Error{ErrorKind::usage, "verify takes an artifact or --shapes, one of the two"};
  VerifyJob job;
  job.artifact = o.artifact;
  for (const std::string& name : o.shapes)
    for (const LinearShape& shape : shapes_named(name)) job.shapes.push_back(shape);
  if (!o.against.empty()) job.source = o.against;
  job.device = device_named(o.device);
  job.checks.rows.clear();
  for (const std::int64_t m : o.rows) job.checks.rows.emplace_back(m);
  job.checks.seed = o.seed;

  const Output out{o.json};
  VerifyReport report;
  {
    ProgressDisplay display;
    report = run_verify(job, display.callback());
  }
  print_layers(report, out);
  print_verdict(report, out);
  out.json(to_json(report));
  if (!report.passed()) throw Error{ErrorKind::mismatch, "verification failed; do not use this artifact"};
}

}  // namespace

void add_verify(CLI::App& root) {
  auto o = std::make_shared<VerifyOptions>();
  auto* cmd =
      root.add_subcommand("verify", "prove an artifact: every byte, every layer, and against its source");
  cmd->add_option("artifact", o->artifact, "directory that marlin-pack wrote");
  cmd->add_option("--against", o->against, "the float checkpoint it was made from");
  cmd->add_option("--shapes", o->shapes,
                  "instead of an artifact: random layers of these shapes (llama3-8b, llama3-70b, KxN), 4 and "
                  "8 bits, group "
                  "128 and one scale per column")
      ->delimiter(',');
  cmd->add_option("--device", o->device, "where the products run: the GPU's Marlin kernel or the CPU decoder")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  cmd->add_option("--m", o->rows, "activation rows of the products, comma separated")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cmd->add_option("--seed", o->seed, "of the random activations")->capture_default_str();
  cmd->add_option("--threads", o->threads, "0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
