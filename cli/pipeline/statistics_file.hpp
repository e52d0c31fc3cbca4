#pragma once
// Hessians on disk: what calibrate writes, merges, and quantize --stats reads. A safetensors file; for each
// group of linears that read one input, named after the first of them:
//
//   MODULE.hessian  F32 (K (K + 1) / 2)   sum of x x^T over the tokens: the columns of its upper triangle,
//   one
//                                         after the other, column j with rows 0 .. j
//   MODULE.tokens   I64 (2)               how many were summed; of an expert how many were routed to it, else
//   -1 sample_tokens   I32                   the first calibration window
//
// AWQ's channel statistics, the mean squares of the inputs, are the diagonals. The metadata "marlin_pack" is
// JSON: statistics_version, model (model_fingerprint) and calibrations, one object per text.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/pipeline/statistics_source.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/io/safetensors.hpp"

namespace mpk {

/// Which model a checkpoint holds, however it is cut into files: the SHA-256 of config.json's content and of
/// every tensor's name, dtype, shape and first and last bytes.
std::string model_fingerprint(const Checkpoint& checkpoint);

struct StatisticsInfo {
  std::string model;  ///< model_fingerprint
  std::vector<nlohmann::ordered_json> calibrations;
  std::vector<std::int32_t> sample_tokens;
};

/// A group of linears and how many inputs it has.
struct StatisticsGroup {
  std::string module;
  std::int64_t k = 0;
};

class StatisticsFile {
 public:
  /// Throws Error{bad_input} for what StatisticsWriter did not write.
  static StatisticsFile open(const std::filesystem::path& path);

  const StatisticsInfo& info() const { return info_; }
  const std::vector<StatisticsGroup>& groups() const { return groups_; }
  /// Throws Error{bad_input} if the file has no such group.
  InputStatistics group(const std::string& module, std::int64_t k) const;
  std::span<const std::byte> header_bytes() const { return file_.header_bytes(); }

 private:
  StatisticsFile(std::filesystem::path path, SafetensorsFile file);
  TensorView tensor(const std::string& name, DType dtype, std::int64_t count) const;

  std::filesystem::path path_;
  SafetensorsFile file_;
  StatisticsInfo info_;
  std::vector<StatisticsGroup> groups_;
};

/// Writes `path` group by group: it appears when finish() returns, or not at all.
class StatisticsWriter {
 public:
  /// Throws Error{usage} if `path` exists.
  StatisticsWriter(const std::filesystem::path& path, const StatisticsInfo& info,
                   const std::vector<StatisticsGroup>& groups);
  /// Each group once.
  void write(const std::string& module, const InputStatistics& statistics);
  void finish();

 private:
  std::filesystem::path path_;
  StagingDirectory staging_;
  CheckpointWriter writer_;
};

/// Layers' statistics out of a file.
class SavedStatistics final : public StatisticsSource {
 public:
  /// References must outlive this object.
  SavedStatistics(const StatisticsFile& file, const DecoderConfig& config,
                  std::function<bool(const std::string&)> wanted)
      : file_{file}, config_{config}, wanted_{std::move(wanted)} {}
  GroupStatistics of(DecoderLayer& layer) override;
  void skip(DecoderLayer&) override {}
  bool has_state() const override { return false; }

 private:
  const StatisticsFile& file_;
  const DecoderConfig& config_;
  std::function<bool(const std::string&)> wanted_;
};

}  // namespace mpk
