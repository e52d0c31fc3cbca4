#include <algorithm>
#include <map>
#include <memory>
#include <omp.h>
#include <set>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "cli/reports.hpp"
#include "cli/terminal.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

struct ConvertOptions {
  std::string source, destination, dtype, scale_dtype, activations, zeros = "auto", device = "auto", json;
  std::vector<std::string> targets;
  bool widen = false, pad = true, check = true, verify = false, fuse = false, fold_act_order = false;
  std::int64_t ranks = 1;
  std::uint64_t max_shard_size = 5'000'000'000, memory = 0;
  int threads = 0;
};

const std::map<std::string, DType>& dtype_names() {
  static const std::map<std::string, DType> names{
      {"float16", DType::F16}, {"bfloat16", DType::BF16}, {"float32", DType::F32}};
  return names;
}

const std::map<std::string, DType>& activation_names() {
  static const std::map<std::string, DType> names{
      {"float16", DType::F16}, {"bfloat16", DType::BF16}, {"fp8", DType::F8_E4M3}, {"int8", DType::I8}};
  return names;
}

std::optional<DType> dtype_from(const std::string& name) {
  if (name.empty()) return std::nullopt;
  return dtype_names().at(name);
}

ConvertJob job_from(const ConvertOptions& o) {
  ConvertJob job;
  job.source = o.source;
  job.destination = o.destination;
  std::set<std::string> seen;
  for (const std::string& target : o.targets)
    if (seen.insert(target).second) job.targets.push_back(target);
  job.arrange = {o.ranks, o.fuse, o.fold_act_order};
  job.recode.widen = o.widen;
  job.recode.pad = o.pad;
  job.recode.scale_dtype = dtype_from(o.scale_dtype);
  if (!o.activations.empty()) job.recode.activations = activation_names().at(o.activations);
  job.float_dtype = dtype_from(o.dtype);
  job.zeros = o.zeros;
  job.max_shard_bytes = o.max_shard_size;
  if (o.memory > 0) job.memory_bytes = o.memory;
  job.check = o.check;
  return job;
}

void run(const ConvertOptions& o) {
  // By itself no more than this: the disk is the limit, and every thread keeps some memory.
  constexpr int kMostThreads = 16;
  omp_set_num_threads(o.threads > 0 ? o.threads : std::min(omp_get_max_threads(), kMostThreads));
  const Device device = device_named(o.device);
  if (o.verify) decide_gpu(device);
  const ConvertJob job = job_from(o);
  const Output out{o.json};
  ProgressDisplay display;
  nlohmann::ordered_json json;
  const auto prove = [&](const ConvertReport& report) {
    print_convert(report, out);
    if (!o.verify) return;
    for (const auto& artifact : report.artifacts) {
      VerifyJob verify;
      verify.artifact = artifact.directory;
      verify.device = device;
      const VerifyReport verdict = run_verify(verify, display.callback());
      print_verdict(verdict, out);
      json["verify"][artifact.name()] = to_json(verdict);
      if (!verdict.passed())
        throw Error{ErrorKind::mismatch,
                    fmt::format("the {} artifact did not pass its verification; nothing was "
                                "written to {}",
                                artifact.name(), o.destination)};
    }
  };
  const ConvertReport report = run_convert(job, prove, display.callback());
  json["convert"] = to_json(report);
  for (const auto& artifact : report.artifacts) out.line("written     " + artifact.directory.string());
  out.json(json);
}

void add_common(CLI::App& cmd, ConvertOptions& o) {
  std::vector<std::string> dtypes;
  for (const auto& [name, dtype] : dtype_names()) dtypes.push_back(name);
  cmd.add_option("-o,--output", o.destination, "directory to create; must not exist yet")->required();
  cmd.add_option("--dtype", o.dtype, "of dequantized weights (--to float) instead of the scales' own")
      ->check(CLI::IsMember(dtypes));
  cmd.add_option("--max-shard-size", o.max_shard_size, "bytes, or 500MB, 5GB")
      ->transform(CLI::AsSizeValue(true))
      ->capture_default_str();
  cmd.add_option("--memory", o.memory,
                 "bound on finished tensors that wait to be written; default: the largest tensor and 64 MiB")
      ->transform(CLI::AsSizeValue(true));
  cmd.add_flag("--check,!--no-check", o.check,
               "read everything back from its packed bytes in flight (default)");
  cmd.add_flag("--verify", o.verify, "prove the artifact afterwards, as marlin-pack verify does");
  cmd.add_option("--device", o.device, "where --verify runs its GEMM")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  cmd.add_option("--threads", o.threads, "0: all, 16 at most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  cmd.add_option("--json", o.json, "write the results to a file, or - for standard output");
}

std::vector<std::string> target_names() {
  std::vector<std::string> names = writable_families();
  names.emplace_back(kFloatTarget);
  names.emplace_back(kOriginTarget);
  return names;
}

}  // namespace

void add_convert(CLI::App& root) {
  auto o = std::make_shared<ConvertOptions>();  // lives as long as the callback
  auto* cmd = root.add_subcommand("convert", "packed checkpoint -> the same codes in other formats");
  cmd->add_option("source", o->source, "checkpoint directory or .safetensors file")->required();
  cmd->add_option(
         "--to", o->targets,
         "one or more, comma separated; several are written to DIR/FORMAT each. origin: what an artifact "
         "was converted from")
      ->delimiter(',')
      ->required()
      ->check(CLI::IsMember(target_names()));
  cmd->add_flag("--widen", o->widen, "allow more bits per code: 2 and 3 to 4, asymmetric 4 to symmetric 8");
  cmd->add_flag("--pad,!--no-pad", o->pad, "zero weights up to a size the format takes (default), or refuse");
  cmd->add_option(
         "--tp", o->ranks,
         "ranks of tensor parallelism: an artifact per rank, in DIR/rank-R-of-N; parts of layers are not "
         "padded")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  cmd->add_flag("--fuse", o->fuse, "q, k and v become one qkv_proj, gate and up one gate_up_proj");
  cmd->add_flag("--fold-act-order", o->fold_act_order,
                "sort act-order rows of down_proj by group and the columns of gate and up with them");
  std::vector<std::string> scale_dtypes{"float16", "bfloat16"};
  cmd->add_option("--scale-dtype", o->scale_dtype, "of the scales, where the format leaves a choice")
      ->check(CLI::IsMember(scale_dtypes));
  std::vector<std::string> activations;
  for (const auto& [name, dtype] : activation_names()) activations.push_back(name);
  cmd->add_option(
         "--activations", o->activations,
         "what the kernel multiplies with, where the layout depends on it: marlin-a8, NVFP4 in marlin")
      ->check(CLI::IsMember(activations));
  cmd->add_option(
         "--zeros", o->zeros,
         "what asymmetric GPTQ zero points mean: v1 (stored less one), v2, or auto: what the codes say")
      ->check(CLI::IsMember({"auto", "v1", "v2"}))
      ->capture_default_str();
  add_common(*cmd, *o);
  cmd->callback([o] { run(*o); });
}

void add_unpack(CLI::App& root) {
  auto o = std::make_shared<ConvertOptions>();
  o->targets = {kOriginTarget};
  auto* cmd = root.add_subcommand(
      "unpack", "artifact -> the checkpoint it was converted from, byte for byte, or another plain format");
  cmd->add_option("artifact", o->source, "directory that marlin-pack wrote")->required();
  cmd->add_option("--to", o->targets, "origin, float, or any format of marlin-pack formats")
      ->delimiter(',')
      ->check(CLI::IsMember(target_names()))
      ->capture_default_str();
  add_common(*cmd, *o);
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
