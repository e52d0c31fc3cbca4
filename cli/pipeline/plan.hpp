#pragma once
// What a conversion, and the engine that serves its result on several GPUs, will make of a checkpoint: told
// from headers, before any work.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "packer/recode.hpp"
#include "packer/tensor_parallel.hpp"

namespace mpk {

struct PlanJob {
  std::filesystem::path source;
  std::string target = "marlin";  ///< a family that can be written
  std::vector<std::int64_t> ranks{1, 2, 4, 8};
  Scheme scheme{kU4B8, GroupSize{128}};  ///< of what quantize would make; for checkpoints of floats
  RecodeOptions recode;
  std::string zeros = "auto";             ///< as in ConvertJob
  double bytes_per_second = 200'000'000;  ///< read and written together; an assumption, not measured
};

enum class Fit { fits, padded, refused };

/// A layer divided among some ranks.
struct RankPlan {
  std::int64_t ranks = 1;
  std::int64_t copies = 1;  ///< ranks that hold the same part
  Fit fit = Fit::refused;
  K k{0};  ///< of a rank's part; 0 x 0 if there is none
  N n{0};
  K stored_k{0};  ///< with the padding; 0 x 0 if refused
  N stored_n{0};
  std::string format;  ///< row of weight_formats()
  std::string why;     ///< refused: the reason
  bool exact = true;
  std::vector<std::string> notes = {};  ///< what is done to the numbers
  std::uint64_t bytes = 0;              ///< of the packed weight on one rank
};

struct PlannedModule {
  std::string name, kind;  ///< kind: the last component of the name
  std::string from;        ///< row of weight_formats(), or "float"
  Geometry geometry;       ///< of one expert; of floats, with the scheme they would get
  std::int64_t experts = 0;
  Split split = Split::none;
  std::uint64_t source_bytes = 0;
  RankPlan whole;               ///< undivided: what convert makes
  std::vector<RankPlan> ranks;  ///< one per element of PlanJob::ranks
};

struct RankTotals {
  std::int64_t ranks = 1;
  std::int64_t fit = 0, padded = 0, refused = 0;  ///< layers
  std::uint64_t bytes = 0;  ///< of packed weights on one rank, without layers that are refused
  double padding = 0;       ///< weights that padding adds, in units of those that are there
};

struct PlanReport {
  std::string target;
  bool is_packed = true;  ///< false: floats, which quantize has to pack
  std::vector<PlannedModule> modules;
  std::vector<RankTotals> totals;  ///< one per element of PlanJob::ranks
  std::int64_t refused = 0;        ///< layers that the undivided target cannot hold
  std::uint64_t source_bytes = 0;
  /// Of the tensors that convert, or quantize, writes; refused layers are counted as they are now.
  std::uint64_t result_bytes = 0;
  std::uint64_t largest_tensor = 0;
  std::optional<std::uint64_t> memory_bytes;  ///< of convert at most; quantize is not predicted
  double bytes_per_second = 0, seconds = 0;   ///< reading and writing
  std::vector<std::string> notes;
};

/// Throws Error{usage} for a target that is no family, Error{unsupported} for a checkpoint without linear
/// layers, and what PackedCheckpoint::open throws.
PlanReport run_plan(const PlanJob& job);

}  // namespace mpk
