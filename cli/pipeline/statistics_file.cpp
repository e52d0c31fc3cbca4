#include "cli/pipeline/statistics_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/mapped_file.hpp"
#include "packer/io/publish.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

constexpr int kVersion = 1;
constexpr const char* kMetadata = "marlin_pack";
constexpr const char* kSampleTokens = "sample_tokens";
constexpr std::string_view kHessian = ".hessian", kTokens = ".tokens";

std::int64_t triangle(std::int64_t k) {
  return k * (k + 1) / 2;
}

/// The k of which `count` is the triangle; 0: of none.
std::int64_t side_of(std::int64_t count) {
  auto k = static_cast<std::int64_t>(std::sqrt(2.0 * static_cast<double>(count)));
  while (k > 0 && triangle(k) > count) --k;
  return triangle(k) == count ? k : 0;
}

std::vector<TensorSpec> specs_of(const StatisticsInfo& info, const std::vector<StatisticsGroup>& groups) {
  std::vector<TensorSpec> specs{{kSampleTokens, DType::I32, {std::ssize(info.sample_tokens)}}};
  for (const auto& [module, k] : groups) {
    specs.push_back({module + std::string{kHessian}, DType::F32, {triangle(k)}});
    specs.push_back({module + std::string{kTokens}, DType::I64, {2}});
  }
  return specs;
}

std::map<std::string, std::string> metadata_of(const StatisticsInfo& info) {
  const nlohmann::ordered_json json{
      {"statistics_version", kVersion}, {"model", info.model}, {"calibrations", info.calibrations}};
  return {{kMetadata, json.dump()}};
}

template <class T>
TensorView view_of(const std::vector<T>& values, DType dtype) {
  return {dtype, {std::ssize(values)}, std::as_bytes(std::span{values})};
}

}  // namespace

std::string model_fingerprint(const Checkpoint& checkpoint) {
  constexpr std::size_t kSampled = 4096;
  Sha256 hash;
  const auto add = [&](const std::string& text) { hash.update(std::as_bytes(std::span{text})); };
  add(checkpoint.config().dump());
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    add(fmt::format("\n{} {} {}\n", name, info(tensor.dtype).name, to_string(tensor.shape)));
    const std::size_t bytes = std::min(kSampled, tensor.data.size());
    hash.update(tensor.data.first(bytes));
    hash.update(tensor.data.last(bytes));
  }
  return hash.hex();
}

StatisticsFile::StatisticsFile(fs::path path, SafetensorsFile file)
    : path_{std::move(path)}, file_{std::move(file)} {
  const auto& metadata = file_.header().metadata;
  const auto found = metadata.find(kMetadata);
  if (found == metadata.end())
    throw Error{ErrorKind::bad_input, "no statistics: marlin-pack calibrate did not write it"};
  try {
    parse_json(found->second);  // bounds what the other parser would take
    const auto json = nlohmann::ordered_json::parse(found->second);
    if (json.at("statistics_version") != kVersion)
      throw Error{ErrorKind::unsupported,
                  fmt::format("statistics_version {} is not {}; use the marlin-pack that wrote it",
                              json.at("statistics_version").dump(), kVersion)};
    json.at("model").get_to(info_.model);
    for (const auto& calibration : json.at("calibrations")) info_.calibrations.push_back(calibration);
  } catch (const nlohmann::json::exception& e) {
    throw Error{ErrorKind::bad_input, fmt::format("the metadata are not those of statistics: {}", e.what())};
  }
  for (const auto& [name, entry] : file_.header().tensors)
    if (name.ends_with(kHessian)) {
      const std::int64_t k = entry.shape.size() == 1 ? side_of(entry.shape[0]) : 0;
      if (k == 0)
        throw Error{ErrorKind::bad_input,
                    fmt::format("{} {} is no triangle of a matrix", name, to_string(entry.shape))};
      groups_.push_back({name.substr(0, name.size() - kHessian.size()), k});
    }
  const TensorView sample = tensor(kSampleTokens, DType::I32, -1);
  info_.sample_tokens.resize(sample.data.size() / sizeof(std::int32_t));
  std::memcpy(info_.sample_tokens.data(), sample.data.data(), sample.data.size());
}

StatisticsFile StatisticsFile::open(const fs::path& path) {
  SafetensorsFile file = SafetensorsFile::open(path);
  return within("file " + path.string(), [&] { return StatisticsFile{path, std::move(file)}; });
}

/// `count` -1: any.
TensorView StatisticsFile::tensor(const std::string& name, DType dtype, std::int64_t count) const {
  const auto& tensors = file_.header().tensors;
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw Error{ErrorKind::bad_input, fmt::format("{} has no {}", path_.string(), name)};
  const TensorEntry& entry = found->second;
  if (entry.dtype != dtype || entry.shape.size() != 1 || (count >= 0 && entry.shape[0] != count))
    throw Error{ErrorKind::bad_input,
                fmt::format("{}: {} is {} {}, where {} numbers {} were expected", path_.string(), name,
                            mpk::info(entry.dtype).name, to_string(entry.shape),
                            count < 0 ? "some" : std::to_string(count), mpk::info(dtype).name)};
  return file_.view(entry);
}

InputStatistics StatisticsFile::group(const std::string& module, std::int64_t k) const {
  InputStatistics seen;
  std::array<std::int64_t, 2> tokens{};
  std::memcpy(tokens.data(), tensor(module + std::string{kTokens}, DType::I64, 2).data.data(), sizeof tokens);
  seen.tokens = tokens[0];
  if (tokens[1] >= 0) seen.routed_tokens = tokens[1];
  const TensorView stored = tensor(module + std::string{kHessian}, DType::F32, triangle(k));
  seen.hessian.resize(k, k);
  const std::byte* column = stored.data.data();
  for (Eigen::Index j = 0; j < k; ++j) {
    const std::size_t bytes = static_cast<std::size_t>(j + 1) * sizeof(float);
    std::memcpy(seen.hessian.col(j).data(), column, bytes);
    column += bytes;
  }
  seen.hessian.triangularView<Eigen::StrictlyLower>() = seen.hessian.transpose();
  MappedFile::release(stored.data);
  return seen;
}

StatisticsWriter::StatisticsWriter(const fs::path& path, const StatisticsInfo& info,
                                   const std::vector<StatisticsGroup>& groups)
    : path_{output_path(path)},
      staging_{path_},
      writer_{staging_.path(), specs_of(info, groups), std::numeric_limits<std::uint64_t>::max(),
              CheckpointWriter::Begin::anew, metadata_of(info)} {
  writer_.write(kSampleTokens, view_of(info.sample_tokens, DType::I32));
}

void StatisticsWriter::write(const std::string& module, const InputStatistics& statistics) {
  const MatrixF& hessian = statistics.hessian;
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(triangle(hessian.rows())));
  for (Eigen::Index j = 0; j < hessian.cols(); ++j)
    values.insert(values.end(), hessian.col(j).data(), hessian.col(j).data() + j + 1);
  writer_.write(module + std::string{kHessian}, view_of(values, DType::F32));
  const std::vector<std::int64_t> tokens{statistics.tokens, statistics.routed_tokens.value_or(-1)};
  writer_.write(module + std::string{kTokens}, view_of(tokens, DType::I64));
}

void StatisticsWriter::finish() {
  writer_.finish();
  publish_file(staging_.path() / writer_.shards().front(), path_);
}

GroupStatistics SavedStatistics::of(DecoderLayer& layer) {
  GroupStatistics seen;
  for (const LinearGroup& group : linear_groups(config_, layer)) {
    const bool wanted =
        std::ranges::any_of(group.linears, [&](const Linear* linear) { return wanted_(linear->module); });
    seen.push_back(wanted ? file_.group(group.linears.front()->module, group.linears.front()->weight.rows())
                          : InputStatistics{});
  }
  return seen;
}

}  // namespace mpk
