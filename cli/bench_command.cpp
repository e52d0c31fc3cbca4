#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/bench_comparison.hpp"
#include "cli/pipeline/bench_type.hpp"
#include "cli/pipeline/solve_bench.hpp"
#include "cli/roofline.hpp"
#include "cli/terminal.hpp"
#include "kernels/bench.hpp"
#include "packer/format/error.hpp"
#include "verify/model_shapes.hpp"

namespace mpk {
namespace {

struct BenchOptions {
  std::vector<std::string> shapes{"4096x4096", "4096x28672", "8192x8192", "8192x57344", "28672x8192"};
  std::vector<std::string> types{"u4b8"};
  std::vector<std::int64_t> rows{1, 16, 32, 64, 128, 256, 1024};
  std::string activations = "f16", family = "auto", json, svg;
  std::vector<std::filesystem::path> compare;
  int group_size = 128;
  double plans = 0;
  bool no_cublas = false, solve = false, solve_on_cpu = false;
};

std::vector<LayerShape> layers_of(const BenchOptions& o) {
  const Float f = o.activations == "f16" ? Float::f16 : Float::bf16;
  const auto group = o.group_size > 0 ? std::optional{GroupSize{o.group_size}} : std::nullopt;
  std::vector<LayerShape> layers;
  for (const std::string& name : o.types) {
    const auto type = bench_type_named(name);
    if (!type)
      throw Error{ErrorKind::usage, fmt::format("--types {}: there are {}", name, bench_type_names())};
    for (const std::string& shape_name : o.shapes)
      for (const LinearShape& shape : shapes_named(shape_name))
        layers.push_back(
            {type->weight, type->group_size(group), shape.k, shape.n, f, false, type->activations8});
  }
  return layers;
}

struct Rates {
  double terabytes_per_second, of_floor, tflops;
};
Rates rates(const BenchLayer& layer, const BenchPoint& point) {
  const double flops = 2.0 * static_cast<double>(point.m.value) * static_cast<double>(layer.layer.k.value) *
                       static_cast<double>(layer.layer.n.value);
  return {static_cast<double>(layer.bytes) / point.graph_us * 1e-6, layer.floor_us / point.graph_us,
          flops / point.graph_us * 1e-6};
}

/// "4096 x 28672 at M = 32".
std::string place_of(const BenchRatio& found) {
  return fmt::format("{} x {} at M = {}", found.layer->layer.k.value, found.layer->layer.n.value,
                     found.m.value);
}
/// "+0.10 us (+1.1%) to 8.70 vLLM 0.33 Marlin".
std::string difference_text(const BenchPoint& point, const ComparisonTime& time) {
  return fmt::format("{:+.2f} us ({:+.1f}%) to {:.2f} {}", point.graph_us - time.us,
                     100 * (point.graph_us / time.us - 1), time.us, time.name);
}

void print_summary(const BenchReport& report, const Comparison& comparison, const Output& out) {
  if (const auto step = largest_step(report, M{16}, M{32}))
    out.line(
        fmt::format("M = 32 takes at most {:.2f} times what M = 16 takes: {}", step->ratio, place_of(*step)));
  if (const auto worst = slowest_beside_cublas(report, M{256}))
    out.line(fmt::format("from M = 256 on at most {:.2f} times cuBLAS's time: {}", worst->ratio,
                         place_of(*worst)));
  if (comparison.times.empty()) return;
  for (const std::string& label : comparison.labels) out.line(fmt::format("held against: {}", label));
  for (const ComparisonScore& s : scores(report, comparison))
    out.line(s.of > 0 ? fmt::format("  {}: {} of {} products are no slower", s.name, s.met, s.of)
                      : fmt::format("  {}: has no time for anything that was measured", s.name));
}

void print(const BenchReport& report, const Comparison& comparison, const Output& out) {
  out.line(
      fmt::format("{}, {} multiprocessors; empty kernel in a graph {:.2f} us; cuBLAS: {}{}", report.gpu,
                  report.num_sms, report.empty_us, report.cublas,
                  report.peak_tflops ? fmt::format(", 8192^3 at {:.0f} TFLOP/s", *report.peak_tflops) : ""));
  for (const BenchLayer& layer : report.layers) {
    const LayerShape& shape = layer.layer;
    out.line();
    out.line(fmt::format(
        "{} x {} activations, group {}, K x N = {} x {}: {}, read alone in {:.1f} us ({:.2f} TB/s)",
        name_of(shape.weight), activations_text(shape.activations8, shape.activations),
        shape.group_size ? shape.group_size->value : -1, shape.k.value, shape.n.value,
        human_bytes(layer.bytes), layer.floor_us, static_cast<double>(layer.bytes) / layer.floor_us * 1e-6));
    const int width = comparison.times.empty() ? 0 : 44;
    out.line(fmt::format("{:>6} {:>9} {:>9} {:>7} {:>7} {:>8} {:>6} {:>9}  {:<20} {:<{}}{}", "M", "us",
                         "launched", "TB/s", "floor", "TFLOP/s", "GHz", "cuBLAS", "bound by",
                         width > 0 ? "to the best" : "", width, "kernel"));
    for (const BenchPoint& point : layer.points) {
      const Rates r = rates(layer, point);
      const BenchLimit limit = limit_of(report, layer, point);
      const ComparisonTime* best = best_time(comparison, shape, point.m);
      out.line(fmt::format(
          "{:>6} {:>9.2f} {:>9.2f} {:>7.2f} {:>6.0f}% {:>8.1f} {:>6.2f} {:>9}  {:<20} {:<{}}{}",
          point.m.value, point.graph_us, point.launch_us, r.terabytes_per_second, 100 * r.of_floor, r.tflops,
          point.megahertz * 1e-3, point.cublas_us ? fmt::format("{:.2f}", *point.cublas_us) : "-",
          fmt::format("{} ({:.0f}%)", limit.name, 100 * limit.us / point.graph_us),
          best != nullptr ? difference_text(point, *best) : "", width, point.kernel));
      for (const BenchPlan& plan : point.plans)
        out.line(fmt::format("{:>6} {:>9.2f} expected {:>9.2f}   {}", "", plan.graph_us, plan.expected_us,
                             plan.kernel));
    }
  }
  out.line();
  out.line(
      "us: one of many launches in a CUDA graph, weights cold; launched: one after the other from the host. "
      "floor: time to read the weights alone, of the time taken. GHz: of the multiprocessors meanwhile; less "
      "than they could where power limits them. bound by: the largest lower bound, and how close to it.");
  print_summary(report, comparison, out);
}

nlohmann::ordered_json to_json(const BenchRatio& found) {
  return {{"k", found.layer->layer.k.value},
          {"n", found.layer->layer.n.value},
          {"m", found.m.value},
          {"ratio", found.ratio}};
}

nlohmann::ordered_json to_json(const BenchReport& report, const Comparison& comparison) {
  nlohmann::ordered_json json{{"gpu", report.gpu},
                              {"multiprocessors", report.num_sms},
                              {"empty_kernel_us", report.empty_us},
                              {"cublas", report.cublas},
                              {"layers", nlohmann::ordered_json::array()}};
  if (report.peak_tflops) json["cublas_8192_tflops"] = *report.peak_tflops;
  for (const BenchLayer& layer : report.layers) {
    const LayerShape& shape = layer.layer;
    nlohmann::ordered_json points = nlohmann::ordered_json::array();
    for (const BenchPoint& point : layer.points) {
      const Rates r = rates(layer, point);
      const BenchLimit limit = limit_of(report, layer, point);
      nlohmann::ordered_json row{{"m", point.m.value},
                                 {"us", point.graph_us},
                                 {"launched_us", point.launch_us},
                                 {"terabytes_per_second", r.terabytes_per_second},
                                 {"of_floor", r.of_floor},
                                 {"tflops", r.tflops},
                                 {"megahertz", point.megahertz},
                                 {"relative_error", point.error},
                                 {"bound_by", limit.name},
                                 {"bound_us", limit.us},
                                 {"expected_us", point.expected_us},
                                 {"kernel", point.kernel}};
      if (point.cublas_us) row["cublas_us"] = *point.cublas_us;
      for (const BenchPlan& plan : point.plans)
        row["plans"].push_back(
            {{"kernel", plan.kernel}, {"expected_us", plan.expected_us}, {"us", plan.graph_us}});
      if (const ComparisonTime* best = best_time(comparison, shape, point.m))
        row["best_other"] = {
            {"name", best->name}, {"us", best->us}, {"difference_us", point.graph_us - best->us}};
      points.push_back(std::move(row));
    }
    json["layers"].push_back({{"weights", name_of(shape.weight)},
                              {"activations", activations_text(shape.activations8, shape.activations)},
                              {"group_size", shape.group_size ? shape.group_size->value : -1},
                              {"k", shape.k.value},
                              {"n", shape.n.value},
                              {"bytes", layer.bytes},
                              {"floor_us", layer.floor_us},
                              {"points", std::move(points)}});
  }
  if (const auto step = largest_step(report, M{16}, M{32})) json["largest_step_16_to_32"] = to_json(*step);
  if (const auto worst = slowest_beside_cublas(report, M{256}))
    json["slowest_beside_cublas_from_256"] = to_json(*worst);
  if (!comparison.times.empty()) {
    json["compared_with"] = {{"labels", comparison.labels}, {"scores", nlohmann::ordered_json::array()}};
    for (const ComparisonScore& s : scores(report, comparison))
      json["compared_with"]["scores"].push_back({{"name", s.name}, {"met", s.met}, {"of", s.of}});
  }
  return json;
}

nlohmann::ordered_json to_json(const SolveTimes& times) {
  return {{"factor_seconds", times.factor}, {"solve_seconds", times.solve}, {"relative_loss", times.loss}};
}

/// GPTQ instead of the kernels.
void run_solve(const BenchOptions& o) {
  std::vector<SolveShape> shapes;
  for (const std::string& name : o.shapes)
    for (const LinearShape& shape : shapes_named(name)) shapes.push_back({shape.k, shape.n});
  const Output out{o.json};
  nlohmann::ordered_json json;
  out.line(
      "GPTQ of one layer, INT4 in groups of 128, static act-order, MSE ranges: seconds; recipe: also a "
      "corrected "
      "target, signed scales, 4 sweeps of descent");
  out.line(fmt::format("{:>14} {:>8} {:>8} {:>8} {:>8} {:>12} {:>12}", "K x N", "factor", "solve", "both",
                       "recipe", "loss", "CPU's loss"));
  for (const SolveBenchRow& row : run_solve_bench(
           shapes, o.solve_on_cpu, [](const std::string& what) { fmt::print(stderr, "{}\n", what); })) {
    out.line(fmt::format("{:>14} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:12.6f} {:>12}",
                         fmt::format("{}x{}", row.shape.k.value, row.shape.n.value), row.plain.factor,
                         row.plain.solve, row.plain.factor + row.plain.solve,
                         row.recipe.factor + row.recipe.solve, row.plain.loss,
                         row.cpu_loss ? fmt::format("{:.6f}", *row.cpu_loss) : "-"));
    json["solve"].push_back({{"k", row.shape.k.value},
                             {"n", row.shape.n.value},
                             {"plain", to_json(row.plain)},
                             {"recipe", to_json(row.recipe)}});
    if (row.cpu_loss) json["solve"].back()["cpu_relative_loss"] = *row.cpu_loss;
  }
  out.json(json);
}

void run(const BenchOptions& o) {
  if (o.solve) return run_solve(o);
  BenchJob job;
  job.layers = layers_of(o);
  for (const std::int64_t m : o.rows) job.rows.emplace_back(m);
  job.cublas = !o.no_cublas;
  job.plans_up_to = o.plans;
  if (o.family != "auto") job.family = o.family == "hopper" ? GemmFamily::hopper : GemmFamily::mma_sync;
  const Comparison comparison = read_comparison(o.compare);  // before minutes of measuring
  const Output out{o.json};
  const BenchReport report =
      run_bench(job, [](const std::string& what) { fmt::print(stderr, "measuring {}\n", what); });
  print(report, comparison, out);
  out.json(to_json(report, comparison));
  if (!o.svg.empty()) {
    std::ofstream file{o.svg};
    file << roofline_svg(report);
    if (!file.flush()) throw Error{ErrorKind::device, fmt::format("--svg {}: cannot be written", o.svg)};
  }
}

}  // namespace

void add_bench(CLI::App& root) {
  auto o = std::make_shared<BenchOptions>();
  auto* cmd = root.add_subcommand("bench", "time the kernels beside this GPU's limits and cuBLAS");
  cmd->add_option("--shapes", o->shapes, "llama3-8b, llama3-70b or KxN, comma separated")
      ->delimiter(',')
      ->capture_default_str();
  cmd->add_option("--m", o->rows, "activation rows, comma separated")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cmd->add_option(
         "--types", o->types,
         fmt::format("weights (u4fz: float zero points), and activations of 8 bits: {}; comma separated",
                     bench_type_names()))
      ->delimiter(',')
      ->capture_default_str();
  cmd->add_option("--activations", o->activations, "of 16 bits; with those of 8 bits: outputs")
      ->check(CLI::IsMember({"f16", "bf16"}))
      ->capture_default_str();
  cmd->add_option("--group-size", o->group_size,
                  "32, 64, 128, or -1: one scale per column, as with int8 always")
      ->check(CLI::IsMember({-1, 32, 64, 128}))
      ->capture_default_str();
  cmd->add_option("--family", o->family, "auto: the fastest that runs here")
      ->check(CLI::IsMember({"auto", "hopper", "mma-sync"}))
      ->capture_default_str();
  cmd->add_option(
         "--plans", o->plans,
         "time every plan that is expected to take at most so many times as long as the chosen one: what "
         "the choice is fitted to")
      ->check(CLI::Range(0.0, 100.0));
  cmd->add_flag("--no-cublas", o->no_cublas, "leave out what is measured by cuBLAS");
  cmd->add_flag("--solve", o->solve, "time GPTQ on the GPU for these shapes instead of the kernels");
  cmd->add_flag("--solve-on-cpu", o->solve_on_cpu,
                "with --solve: the CPU's loss beside the GPU's, which takes minutes");
  cmd->add_option("--compare", o->compare,
                  "a file of times to hold the measurement against (bench/h200_peers.json); may be repeated")
      ->check(CLI::ExistingFile);
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->add_option("--svg", o->svg, "draw a roofline into a file");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
