#include <map>
#include <memory>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/plan.hpp"
#include "cli/pipeline/recipe.hpp"
#include "cli/terminal.hpp"

namespace mpk {
namespace {

struct PlanOptions {
  std::string source, target = "marlin", zeros = "auto", json;
  std::vector<std::int64_t> ranks{1, 2, 4, 8};
  int bits = 4;
  std::int64_t group_size = 128;
  std::uint64_t rate = 200'000'000;
  bool widen = false, pad = true;
};

PlanJob job_from(const PlanOptions& o) {
  PlanJob job;
  job.source = o.source;
  job.target = o.target;
  job.ranks = o.ranks;
  job.scheme = with_codes({.group_size = group_size_from(o.group_size)}, checked_bits(o.bits), false);
  job.recode.widen = o.widen;
  job.recode.pad = o.pad;
  job.zeros = o.zeros;
  job.bytes_per_second = static_cast<double>(o.rate);
  return job;
}

const char* name_of(Fit fit) {
  return fit == Fit::fits ? "fits" : fit == Fit::padded ? "padded" : "refused";
}

/// Reasons too long for a cell are numbered and follow the table.
class Footnotes {
 public:
  std::string cell(const std::string& reason) {
    constexpr std::size_t kLongest = 44;
    if (reason.size() <= kLongest) return "no: " + reason;
    auto it = std::ranges::find(texts_, reason);
    if (it == texts_.end()) it = texts_.insert(it, reason);
    return fmt::format("no ({})", it - texts_.begin() + 1);
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

std::string cell_of(const RankPlan& plan, Footnotes& footnotes) {
  if (plan.fit == Fit::refused) return footnotes.cell(plan.why);
  std::string text = plan.fit == Fit::fits ? std::string{"fits"}
                                           : padding_text(plan.k, plan.n, plan.stored_k, plan.stored_n);
  if (!plan.exact) text += ", rounds scales";
  return text;
}

void print_table(const PlanReport& report, const Output& out) {
  Footnotes footnotes;
  using Cells = std::vector<std::string>;
  Cells head{"layers (K x N)"};
  for (const RankTotals& totals : report.totals) head.push_back(fmt::format("tp {}", totals.ranks));
  std::vector<std::pair<Cells, std::int64_t>> rows;  // layers of which the same is said, and how many
  for (const PlannedModule& module : report.modules) {
    const auto& [scheme, k, n] = module.geometry;
    Cells cells{fmt::format("{} {}x{}{}, {}, {} {}", module.kind, k.value, n.value,
                            module.experts != 0 ? fmt::format(" x {} experts", module.experts) : "",
                            name_of(module.split), module.from, to_string(scheme))};
    for (const RankPlan& plan : module.ranks) cells.push_back(cell_of(plan, footnotes));
    const auto it = std::ranges::find(rows, cells, &std::pair<Cells, std::int64_t>::first);
    if (it == rows.end())
      rows.emplace_back(std::move(cells), 1);
    else
      ++it->second;
  }
  for (auto& [cells, count] : rows) cells.front() = fmt::format("{} x {}", count, cells.front());
  rows.insert(rows.begin(), {std::move(head), 0});
  std::vector<std::size_t> widths(report.totals.size() + 1);
  for (const auto& [cells, count] : rows)
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  for (const auto& [cells, count] : rows) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i)
      line += i + 1 == cells.size() ? cells[i] : fmt::format("{:<{}}  ", cells[i], widths[i]);
    out.line(line);
  }
  for (std::size_t i = 0; i < footnotes.texts().size(); ++i)
    out.line(fmt::format("({}) {}", i + 1, footnotes.texts()[i]));
}

void print_totals(const PlanReport& report, const Output& out) {
  for (const std::string& note : report.notes) out.line("note        " + note);
  for (const RankTotals& totals : report.totals)
    out.line(fmt::format(
        "{:<12}{} fit, {} padded, {} cannot; {} of packed weights on a GPU{}",
        fmt::format("tp {}", totals.ranks), totals.fit, totals.padded, totals.refused,
        human_bytes(totals.bytes),
        totals.padding > 0 ? fmt::format(", {:.1f} % more weights by padding", 100 * totals.padding) : ""));
  out.line(fmt::format("size        {} -> {} of tensors as {}{}", human_bytes(report.source_bytes),
                       human_bytes(report.result_bytes), report.target,
                       report.refused != 0 ? "; layers that cannot be converted count as they are" : ""));
  if (report.memory_bytes)
    out.line(fmt::format("memory      at most about {}: twice the largest tensor ({}) and {}",
                         human_bytes(*report.memory_bytes), human_bytes(report.largest_tensor),
                         human_bytes(kFixedMemoryBytes)));
  else
    out.line("memory      not predicted for quantize: it depends on the method and its calibration");
  out.line(fmt::format("time        about {}, assuming {}/s read and written (--rate){}",
                       human_seconds(report.seconds),
                       human_bytes(static_cast<std::uint64_t>(report.bytes_per_second)),
                       report.is_packed ? "" : "; quantizing comes on top"));
  const std::string act =
      fmt::format("{} {}", report.is_packed ? "converted to" : "packed as", report.target);
  std::string refused;
  for (const RankTotals& totals : report.totals)
    if (totals.refused > 0)
      refused += fmt::format("{}{} of {} layers at tp {}", refused.empty() ? "" : ", ", totals.refused,
                             report.modules.size(), totals.ranks);
  out.line(refused.empty() ? fmt::format("all {} layers can be {}", report.modules.size(), act)
                           : fmt::format("CANNOT be {}: {}", act, refused));
}

nlohmann::ordered_json to_json(const RankPlan& plan) {
  nlohmann::ordered_json json{{"tp", plan.ranks}, {"fit", name_of(plan.fit)}};
  if (plan.fit == Fit::refused) {
    json["why"] = plan.why;
    return json;
  }
  json["copies"] = plan.copies;
  json["format"] = plan.format;
  json["k"] = plan.k.value;
  json["n"] = plan.n.value;
  json["stored_k"] = plan.stored_k.value;
  json["stored_n"] = plan.stored_n.value;
  json["exact"] = plan.exact;
  json["notes"] = plan.notes;
  json["bytes"] = plan.bytes;
  return json;
}

nlohmann::ordered_json to_json(const PlanReport& report) {
  nlohmann::ordered_json json{{"target", report.target},
                              {"packed", report.is_packed},
                              {"source_bytes", report.source_bytes},
                              {"result_bytes", report.result_bytes},
                              {"largest_tensor_bytes", report.largest_tensor},
                              {"refused", report.refused},
                              {"bytes_per_second", report.bytes_per_second},
                              {"seconds", report.seconds},
                              {"notes", report.notes}};
  json["memory_bytes"] = report.memory_bytes ? nlohmann::ordered_json(*report.memory_bytes) : nullptr;
  json["totals"] = nlohmann::ordered_json::array();
  for (const RankTotals& totals : report.totals)
    json["totals"].push_back({{"tp", totals.ranks},
                              {"fit", totals.fit},
                              {"padded", totals.padded},
                              {"refused", totals.refused},
                              {"rank_bytes", totals.bytes},
                              {"padding", totals.padding}});
  json["layers"] = nlohmann::ordered_json::array();
  for (const PlannedModule& module : report.modules) {
    nlohmann::ordered_json row{{"module", module.name},
                               {"from", module.from},
                               {"scheme", to_string(module.geometry.scheme)},
                               {"k", module.geometry.k.value},
                               {"n", module.geometry.n.value},
                               {"experts", module.experts},
                               {"split", name_of(module.split)},
                               {"bytes", module.source_bytes}};
    row["whole"] = to_json(module.whole);
    row["ranks"] = nlohmann::ordered_json::array();
    for (const RankPlan& plan : module.ranks) row["ranks"].push_back(to_json(plan));
    json["layers"].push_back(std::move(row));
  }
  return json;
}

void run(const PlanOptions& o) {
  const PlanReport report = run_plan(job_from(o));
  const Output out{o.json};
  print_table(report, out);
  print_totals(report, out);
  out.json(to_json(report));
}

}  // namespace

void add_plan(CLI::App& root) {
  auto o = std::make_shared<PlanOptions>();  // lives as long as the callback
  auto* cmd = root.add_subcommand("plan", "what a format and tensor parallelism would make of a checkpoint");
  cmd->add_option("source", o->source, "checkpoint directory or .safetensors file")->required();
  cmd->add_option("--to", o->target, "the format in question")
      ->check(CLI::IsMember(writable_families()))
      ->capture_default_str();
  cmd->add_option("--tp", o->ranks, "numbers of GPUs that share every layer, comma separated")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  cmd->add_option("--bits", o->bits, "for float checkpoints: what quantize will be asked for")
      ->check(CLI::IsMember({4, 8}))
      ->capture_default_str();
  cmd->add_option("--group-size", o->group_size, "likewise; -1: one scale per output")
      ->check(CLI::IsMember({32, 64, 128, -1}))
      ->capture_default_str();
  cmd->add_flag("--widen", o->widen, "as in convert");
  cmd->add_flag("--pad,!--no-pad", o->pad, "as in convert");
  cmd->add_option("--zeros", o->zeros, "as in convert")
      ->check(CLI::IsMember({"auto", "v1", "v2"}))
      ->capture_default_str();
  cmd->add_option("--rate", o->rate, "bytes per second, read and written together, for the expected time")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
