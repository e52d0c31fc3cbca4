#include "cli/pipeline/calibrate.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/calibration.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/statistics_file.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

std::vector<StatisticsGroup> groups_of(const DecoderConfig& config) {
  std::vector<StatisticsGroup> groups;
  for (std::int64_t index = 0; index < config.num_layers; ++index)
    for (const auto& linears : input_groups(config, index))
      groups.push_back({linears.front().module, linears.front().k.value});
  return groups;
}

CalibrateReport report_on(const fs::path& file, const StatisticsInfo& info, std::size_t groups) {
  return {static_cast<std::int64_t>(groups), std::ssize(info.calibrations), fs::file_size(file), {}};
}

void add(InputStatistics& sum, const InputStatistics& other) {
  sum.hessian += other.hessian;
  sum.tokens += other.tokens;
  if (sum.routed_tokens && other.routed_tokens) *sum.routed_tokens += *other.routed_tokens;
}

void require_same_model(const StatisticsFile& first, const StatisticsFile& other, const fs::path& path) {
  const auto names = [](const StatisticsFile& file) {
    std::set<std::pair<std::string, std::int64_t>> result;
    for (const auto& [module, k] : file.groups()) result.emplace(module, k);
    return result;
  };
  if (first.info().model == other.info().model && names(first) == names(other)) return;
  throw Error{ErrorKind::usage,
              fmt::format("{}: statistics of another model (fingerprint {:.12} instead of {:.12})",
                          path.string(), other.info().model, first.info().model)};
}

}  // namespace

CalibrateReport run_calibrate(const CalibrateJob& job, const Progress& progress) {
  const OpenModel model = open_float_model(job.source);
  if (progress) progress("read calibration", 0, 1, "");
  const CalibrationText text{job.calibration, job.samples, job.seq_len, job.seed};
  const std::vector<std::int32_t> windows = load_windows(text, model.checkpoint.directory());
  const StatisticsInfo info{model_fingerprint(model.checkpoint),
                            {calibration_json(text)},
                            {windows.begin(), windows.begin() + job.seq_len}};
  const std::vector<StatisticsGroup> groups = groups_of(model.config);
  StatisticsWriter writer{job.destination, info, groups};

  CalibrationSeconds seconds;
  const Decoder decoder{model.config, *model.weights, Decoder::Parts::layers};
  FloatModelStatistics statistics{model, windows, job.seq_len, [](const std::string&) { return true; },
                                  seconds};
  for (std::int64_t index = 0; index < model.config.num_layers; ++index) {
    if (progress) progress("calibrate", index, model.config.num_layers, "");
    DecoderLayer layer = decoder.load_layer(index);
    const GroupStatistics seen = statistics.of(layer);
    const std::vector<LinearGroup> linears = linear_groups(model.config, layer);
    for (std::size_t i = 0; i < linears.size(); ++i)
      writer.write(linears[i].linears.front()->module, seen[i]);
  }
  writer.finish();
  CalibrateReport report = report_on(job.destination, info, groups.size());
  report.seconds = seconds;
  return report;
}

CalibrateReport run_merge(const std::vector<fs::path>& paths, const fs::path& destination,
                          const Progress& progress) {
  if (paths.size() < 2) throw Error{ErrorKind::usage, "--merge: two files or more"};
  std::vector<StatisticsFile> files;
  for (const fs::path& path : paths) files.push_back(StatisticsFile::open(path));
  const StatisticsFile& first = files.front();
  StatisticsInfo info = first.info();
  for (std::size_t i = 1; i < files.size(); ++i) {
    require_same_model(first, files[i], paths[i]);
    for (const auto& text : files[i].info().calibrations) {
      if (std::ranges::find(info.calibrations, text) != info.calibrations.end())
        throw Error{ErrorKind::usage,
                    fmt::format("{}: its text {} would be counted twice", paths[i].string(), text.dump())};
      info.calibrations.push_back(text);
    }
  }
  StatisticsWriter writer{destination, info, first.groups()};
  std::int64_t done = 0;
  for (const auto& [module, k] : first.groups()) {
    InputStatistics sum = first.group(module, k);
    for (std::size_t i = 1; i < files.size(); ++i) add(sum, files[i].group(module, k));
    writer.write(module, sum);
    if (progress) progress("merge", ++done, std::ssize(first.groups()), module);
  }
  writer.finish();
  return report_on(destination, info, first.groups().size());
}

}  // namespace mpk
