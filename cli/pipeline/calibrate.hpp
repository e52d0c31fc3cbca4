#pragma once
// Statistics as a product: what the linears of a float model read, for quantize --stats to solve as often as
// one likes.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "cli/pipeline/layer_calibration.hpp"
#include "cli/pipeline/progress.hpp"

namespace mpk {

struct CalibrateJob {
  std::filesystem::path source, destination;  ///< a float checkpoint; a file that does not exist yet
  std::filesystem::path calibration;          ///< text or token file
  std::int64_t samples = 128, seq_len = 512;
  std::optional<std::uint64_t> seed;
};

struct CalibrateReport {
  std::int64_t groups = 0;  ///< of linears that read one input
  std::int64_t texts = 0;
  std::uint64_t bytes = 0;  ///< of the file
  CalibrationSeconds seconds;
};

/// One decoder layer's statistics are in memory at a time.
CalibrateReport run_calibrate(const CalibrateJob& job, const Progress& progress = {});

/// The statistics of all texts together. Throws Error{usage} for files of different models, or for a text
/// that is in two of them.
CalibrateReport run_merge(const std::vector<std::filesystem::path>& files,
                          const std::filesystem::path& destination, const Progress& progress = {});

}  // namespace mpk
