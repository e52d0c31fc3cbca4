#pragma once
// What an interrupted quantize has finished, and of which job.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/io/journal.hpp"
#include "packer/manifest.hpp"

namespace mpk {

/// A decoder layer whose tensors are on disk, or (number of layers) what belongs to none.
struct FinishedUnit {
  std::int64_t unit = 0;
  std::vector<ManifestLayer> layers;                        ///< without layout
  std::map<std::string, std::string> source;                ///< source tensor -> SHA-256
  std::vector<std::string> rescaled;                        ///< those of them that were rewritten
  std::vector<std::map<std::string, std::string>> written;  ///< per format: tensor -> SHA-256
};

class QuantizeJournal {
 public:
  /// `file`: new, or what another run left.
  explicit QuantizeJournal(const std::filesystem::path& file);

  const std::map<std::int64_t, FinishedUnit>& finished() const { return finished_; }
  /// `identity`: everything the artifact's bytes depend on. In a new journal it is written down; one that
  /// holds finished work must have the same. Throws Error{usage} that lists what differs.
  void require(const nlohmann::ordered_json& identity);
  /// From any thread; returns when it is on disk.
  void append(const FinishedUnit& unit);

 private:
  Journal journal_;
  std::optional<nlohmann::ordered_json> identity_;
  std::map<std::int64_t, FinishedUnit> finished_;
};

}  // namespace mpk
