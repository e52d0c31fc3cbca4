#include "cli/reports.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace mpk {
namespace {

std::string group_text(const Scheme& scheme) {
  return scheme.group_size ? std::to_string(scheme.group_size->value) : "column";
}

std::string optional_text(const std::optional<double>& value) {
  return value ? fmt::format("{:.5f}", *value) : "-";
}

double mean(const std::vector<LayerCheck>& layers, std::optional<double> LayerCheck::*member) {
  double sum = 0;
  std::int64_t count = 0;
  for (const LayerCheck& layer : layers)
    if (layer.*member) {
      sum += *(layer.*member);
      ++count;
    }
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

/// Experts that were calibrated on other tokens than their own.
void print_starved_experts(const std::vector<ManifestLayer>& layers, const Output& out) {
  constexpr std::size_t kMost = 4;  // with a line each
  std::vector<const ManifestLayer*> starved;
  for (const ManifestLayer& layer : layers)
    if (layer.expert_tokens && layer.expert_tokens->routed < layer.expert_tokens->used)
      starved.push_back(&layer);
  for (std::size_t i = 0; i < std::min(kMost, starved.size()); ++i)
    out.line(
        fmt::format("note        {}: the router sent {} tokens to this expert, fewer than its {} inputs; "
                    "calibrated on all "
                    "{} tokens, as if they had been sent",
                    starved[i]->module, starved[i]->expert_tokens->routed, starved[i]->k.value,
                    starved[i]->expert_tokens->used));
  if (starved.size() > kMost)
    out.line(
        fmt::format("note        the same of {} more linears of experts; the report and the manifest "
                    "name them (expert_tokens)",
                    starved.size() - kMost));
}

}  // namespace

void print_estimate(const QuantizeEstimate& estimate, const Output& out) {
  for (const auto& kind : estimate.kinds)
    out.line(fmt::format("layers      {} x {} {} x {}: {}", kind.count, kind.kind, kind.k.value, kind.n.value,
                         kind.scheme ? to_string(*kind.scheme) : "kept in floating point"));
  if (estimate.other_tensors > 0)
    out.line(fmt::format("copied      {} other tensors, {}", estimate.other_tensors,
                         human_bytes(estimate.other_bytes)));
  for (const auto& artifact : estimate.artifacts)
    out.line(fmt::format("size        {} -> {} ({} bytes of tensors) as {}, {} file{}",
                         human_bytes(estimate.source_bytes), human_bytes(artifact.tensor_bytes),
                         artifact.tensor_bytes, artifact.format, artifact.shards,
                         artifact.shards == 1 ? "" : "s"));
  out.line(fmt::format(
      "disk        {}{}", human_bytes(estimate.disk_bytes),
      estimate.free_bytes ? fmt::format("; {} are free there", human_bytes(*estimate.free_bytes)) : ""));
  if (estimate.free_bytes && *estimate.free_bytes < estimate.disk_bytes)
    out.line("note        that is not enough");
  out.line(fmt::format("memory      about {} at most{}", human_bytes(estimate.memory_bytes),
                       estimate.gpu_memory_bytes
                           ? fmt::format(", and {} of the GPU's", human_bytes(*estimate.gpu_memory_bytes))
                           : ""));
  const auto& s = estimate.seconds;
  out.line(
      fmt::format("time        about {} on this {}, whose rates were measured: load {:.1f}, forward {:.1f} "
                  "({:.3g} PFLOP), "
                  "Hessians {:.1f} ({:.3g} PFLOP), solve {:.1f} s",
                  human_seconds(s.total()), estimate.gpu_memory_bytes ? "GPU" : "CPU", s.load, s.forward,
                  estimate.forward_flops / 1e15, s.hessian, estimate.hessian_flops / 1e15, s.solve));
}

nlohmann::ordered_json to_json(const QuantizeEstimate& estimate) {
  nlohmann::ordered_json json;
  for (const auto& kind : estimate.kinds) {
    nlohmann::ordered_json row{
        {"kind", kind.kind}, {"k", kind.k.value}, {"n", kind.n.value}, {"count", kind.count}};
    if (kind.scheme) {
      row["type"] = name_of(kind.scheme->type);
      row["group_size"] = group_size_number(*kind.scheme);
    }
    json["layers"].push_back(std::move(row));
  }
  json["copied"] = {{"tensors", estimate.other_tensors}, {"bytes", estimate.other_bytes}};
  for (const auto& artifact : estimate.artifacts)
    json["artifacts"].push_back({{"format", artifact.format},
                                 {"bytes", artifact.tensor_bytes},
                                 {"file_bytes", artifact.file_bytes},
                                 {"shards", artifact.shards}});
  json["disk_bytes"] = estimate.disk_bytes;
  if (estimate.free_bytes) json["free_bytes"] = *estimate.free_bytes;
  json["memory_bytes"] = estimate.memory_bytes;
  if (estimate.gpu_memory_bytes) json["gpu_memory_bytes"] = *estimate.gpu_memory_bytes;
  const auto& s = estimate.seconds;
  json["seconds"] = {{"load", s.load}, {"forward", s.forward}, {"hessian", s.hessian}, {"solve", s.solve}};
  json["flop"] = {{"forward", estimate.forward_flops}, {"hessian", estimate.hessian_flops}};
  return json;
}

void print_quantize(const QuantizeReport& report, const Output& out) {
  double loss = 0, error = 0;
  for (const ManifestLayer& layer : report.layers) {
    loss += layer.relative_loss.value_or(0);
    error += layer.weight_error.value_or(0);
    if (layer.damp && *layer.damp > 0 && layer.relative_loss && *layer.damp > report.damp_asked)
      out.line(fmt::format("note        {}: the Hessian needed damping {:g} instead of {:g}", layer.module,
                           *layer.damp, report.damp_asked));
  }
  if (report.resumed_layers > 0)
    out.line(
        fmt::format("resumed     after {} of {} decoder layers", report.resumed_layers, report.num_layers));
  print_starved_experts(report.layers, out);
  const auto count = static_cast<double>(report.layers.size());
  const bool calibrated = report.layers.front().relative_loss.has_value();
  out.line(fmt::format("quantized   {} linear layers, {} kept in floating point; weight error mean {:.4f}{}",
                       report.layers.size(), report.kept.size(), error / count,
                       calibrated ? fmt::format(", calibration loss mean {:.5f}", loss / count) : ""));
  for (std::size_t i = report.residual_errors.size(); i-- > 0;)
    if (const auto& distance = report.residual_errors[i]) {
      out.line(fmt::format("activations {:.4f} from the float model's after {} of {} decoder layers",
                           *distance, i + 1, report.num_layers));
      break;
    }
  for (const auto& artifact : report.artifacts)
    out.line(fmt::format("size        {} -> {} ({:.2f}x) as {}, {} file{}", human_bytes(report.source_bytes),
                         human_bytes(artifact.bytes),
                         static_cast<double>(report.source_bytes) / static_cast<double>(artifact.bytes),
                         artifact.format, artifact.shards, artifact.shards == 1 ? "" : "s"));
  out.line(fmt::format(
      "solved      on {}{}{}", report.engine,
      report.why_not_gpu.empty() ? "" : fmt::format(" (not on the GPU: {})", report.why_not_gpu),
      report.peak_gpu_bytes > 0 ? fmt::format(", {} of GPU memory", human_bytes(report.peak_gpu_bytes))
                                : ""));
  const auto& s = report.seconds;
  out.line(fmt::format(
      "time        {}: load {:.1f}, forward {:.1f}, Hessians {:.1f}, solve {:.1f}, write {:.1f} s",
      human_seconds(s.solver.load + s.solver.calibration.forward + s.solver.calibration.hessian +
                    s.solver.solve + s.write),
      s.solver.load, s.solver.calibration.forward, s.solver.calibration.hessian, s.solver.solve, s.write));
}

nlohmann::ordered_json to_json(const QuantizeReport& report) {
  nlohmann::ordered_json json{{"source_bytes", report.source_bytes}};
  for (const auto& artifact : report.artifacts)
    json["artifacts"].push_back({{"format", artifact.format},
                                 {"directory", artifact.directory.string()},
                                 {"bytes", artifact.bytes},
                                 {"shards", artifact.shards}});
  json["engine"] = report.engine;
  json["resumed_layers"] = report.resumed_layers;
  if (report.peak_gpu_bytes > 0) json["peak_gpu_bytes"] = report.peak_gpu_bytes;
  const auto& s = report.seconds;
  json["seconds"] = {{"load", s.solver.load},
                     {"forward", s.solver.calibration.forward},
                     {"hessian", s.solver.calibration.hessian},
                     {"solve", s.solver.solve},
                     {"write", s.write}};
  for (const ManifestLayer& layer : report.layers) {
    nlohmann::ordered_json row{{"module", layer.module},
                               {"type", name_of(layer.scheme.type)},
                               {"group_size", group_size_number(layer.scheme)},
                               {"weight_error", layer.weight_error.value_or(0)}};
    if (layer.relative_loss) {
      row["relative_loss"] = *layer.relative_loss;
      row["output_error"] = std::sqrt(std::max(0.0, *layer.relative_loss));
    }
    if (layer.damp) row["damp"] = *layer.damp;
    if (layer.expert_tokens)
      row["expert_tokens"] = {{"routed", layer.expert_tokens->routed}, {"used", layer.expert_tokens->used}};
    json["layers"].push_back(std::move(row));
  }
  for (const auto& error : report.residual_errors)
    json["residual_errors"].push_back(error ? nlohmann::ordered_json(*error) : nlohmann::ordered_json());
  json["kept"] = report.kept;
  return json;
}

namespace {

/// What happened to a layer, in words: layers of which the same is said are reported together.
std::string story(const ConvertedLayer& layer) {
  std::string text = fmt::format("{} {} -> {}", layer.from, to_string(layer.before.scheme), layer.to);
  if (layer.to != kFloatTarget && layer.after.scheme != layer.before.scheme)
    text += " " + to_string(layer.after.scheme);
  for (const std::string& note : layer.notes) text += "; " + note;
  return text + ": " + layer.exactness;
}

nlohmann::ordered_json to_json(const Geometry& geometry) {
  return {{"scheme", to_string(geometry.scheme)}, {"k", geometry.k.value}, {"n", geometry.n.value}};
}

}  // namespace

void print_convert(const ConvertReport& report, const Output& out) {
  for (const std::string& note : report.notes) out.line("note        " + note);
  for (const auto& artifact : report.artifacts) {
    std::vector<std::pair<std::string, std::int64_t>> stories;
    for (const ConvertedLayer& layer : artifact.layers) {
      const std::string text = story(layer);
      const auto it = std::ranges::find(stories, text, &std::pair<std::string, std::int64_t>::first);
      if (it == stories.end())
        stories.emplace_back(text, 1);
      else
        ++it->second;
    }
    if (artifact.rank == 0)  // the others tell the same
      for (const auto& [text, count] : stories) out.line(fmt::format("converted   {} x {}", count, text));
    if (!artifact.dropped.empty())
      out.line(fmt::format("left out    {} tensors, such as {}: {}", artifact.dropped.size(),
                           artifact.dropped.begin()->first, artifact.dropped.begin()->second));
    out.line(fmt::format("size        {} -> {} as {}, {} file{}", human_bytes(report.source_bytes),
                         human_bytes(artifact.bytes), artifact.name(), artifact.shards,
                         artifact.shards == 1 ? "" : "s"));
  }
  out.line(fmt::format("time        {}, {}/s read; {} other tensors copied", human_seconds(report.seconds),
                       human_bytes(static_cast<std::uint64_t>(static_cast<double>(report.source_bytes) /
                                                              std::max(report.seconds, 1e-9))),
                       report.copied));
}

nlohmann::ordered_json to_json(const ConvertReport& report) {
  nlohmann::ordered_json json{{"source_bytes", report.source_bytes},
                              {"seconds", report.seconds},
                              {"notes", report.notes},
                              {"copied", report.copied}};
  for (const auto& artifact : report.artifacts) {
    nlohmann::ordered_json row{{"target", artifact.target},
                               {"directory", artifact.directory.string()},
                               {"bytes", artifact.bytes},
                               {"shards", artifact.shards},
                               {"dropped", artifact.dropped}};
    if (artifact.ranks > 1) {
      row["ranks"] = artifact.ranks;
      row["rank"] = artifact.rank;
    }
    for (const ConvertedLayer& layer : artifact.layers)
      row["layers"].push_back({{"module", layer.module},
                               {"from", layer.from},
                               {"to", layer.to},
                               {"before", to_json(layer.before)},
                               {"after", to_json(layer.after)},
                               {"exactness", layer.exactness},
                               {"notes", layer.notes}});
    json["artifacts"].push_back(std::move(row));
  }
  return json;
}

void print_layers(const VerifyReport& report, const Output& out) {
  std::size_t width = 6;
  for (const LayerCheck& layer : report.layers) width = std::max(width, layer.module.size());
  out.line(fmt::format("{:<{}}  {:>6} {:>6}  {:>6} {:>6}  {:>5} {:>5} {:>5}  {:>9}  {:>8} {:>8}", "layer",
                       width, "K", "N", "type", "group", "bytes", "codes", "twice", "GEMM/bnd", "w error",
                       "y error"));
  const auto tick = [](bool good) { return good ? "ok" : "BAD"; };
  for (const LayerCheck& layer : report.layers)
    out.line(fmt::format("{:<{}}  {:>6} {:>6}  {:>6} {:>6}  {:>5} {:>5} {:>5}  {:>9.3f}  {:>8} {:>8}",
                         layer.module, width, layer.k.value, layer.n.value, name_of(layer.scheme.type),
                         group_text(layer.scheme), tick(layer.round_trip), tick(layer.codes_recorded),
                         tick(layer.decoders_agree), layer.worst_product(), optional_text(layer.weight_error),
                         optional_text(layer.output_error)));
}

void print_verdict(const VerifyReport& report, const Output& out) {
  const auto failures = report.all_failures();
  for (const std::string& failure : failures) out.line("FAILED      " + failure);
  std::int64_t exact = 0;
  double worst = 0;
  for (const LayerCheck& layer : report.layers) {
    exact += layer.round_trip && layer.codes_recorded && layer.decoders_agree;
    worst = std::max(worst, layer.worst_product());
  }
  std::string line = fmt::format(
      "verified    {}: {} in {} files hashed; {} of {} layers exact both ways; {} worst {:.2f} of bound",
      report.format, human_bytes(report.integrity.bytes), report.integrity.files, exact, report.layers.size(),
      report.layers.empty() ? "product" : report.layers.front().kernel, worst);
  if (!report.layers.empty() && report.layers.front().weight_error)
    line += fmt::format("; weight error {:.4f}", mean(report.layers, &LayerCheck::weight_error));
  if (!report.layers.empty() && report.layers.front().output_error)
    line += fmt::format(", output error {:.4f}", mean(report.layers, &LayerCheck::output_error));
  if (!report.note.empty()) out.line("note        " + report.note);
  out.line(line + (failures.empty() ? ": ok" : fmt::format(": FAILED ({})", failures.size())));
}

nlohmann::ordered_json to_json(const VerifyReport& report) {
  nlohmann::ordered_json json{{"passed", report.passed()},
                              {"format", report.format},
                              {"files", report.integrity.files},
                              {"tensors", report.integrity.tensors},
                              {"bytes_hashed", report.integrity.bytes},
                              {"failures", report.all_failures()}};
  if (!report.note.empty()) json["note"] = report.note;
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerCheck& layer : report.layers) {
    nlohmann::ordered_json row{{"module", layer.module},
                               {"k", layer.k.value},
                               {"n", layer.n.value},
                               {"type", name_of(layer.scheme.type)},
                               {"group_size", group_size_number(layer.scheme)},
                               {"round_trip", layer.round_trip},
                               {"codes_recorded", layer.codes_recorded},
                               {"decoders_agree", layer.decoders_agree},
                               {"kernel", layer.kernel}};
    for (const GemmCheck& check : layer.products)
      row["products"].push_back({{"m", check.m.value}, {"worst_of_bound", check.worst}});
    if (layer.weight_error) row["weight_error"] = *layer.weight_error;
    if (layer.output_error) row["output_error"] = *layer.output_error;
    json["layers"].push_back(std::move(row));
  }
  return json;
}

}  // namespace mpk
