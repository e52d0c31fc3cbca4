#pragma once
// A packed checkpoint in, the same codes in other formats out.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/arrangement.hpp"
#include "cli/pipeline/packed_modules.hpp"
#include "cli/pipeline/progress.hpp"
#include "packer/format/tensor.hpp"
#include "packer/recode.hpp"

namespace mpk {

/// --to names besides the families of weight_formats().
inline constexpr const char* kFloatTarget = "float";    ///< the dequantized model
inline constexpr const char* kOriginTarget = "origin";  ///< what an artifact was converted from

struct ConvertJob {
  std::filesystem::path source, destination;
  std::vector<std::string> targets;  ///< one: written to destination itself; several: destination/NAME each
  ArrangeOptions arrange;            ///< several ranks: rank-R-of-N below that
  RecodeOptions recode;
  std::optional<DType> float_dtype;  ///< of dequantized weights; nullopt: the scales' own
  std::string zeros = "auto";        ///< asymmetric GPTQ: "v1", "v2", or what the data say
  std::uint64_t max_shard_bytes = 5'000'000'000;
  std::uint64_t memory_bytes = std::uint64_t{1} << 62;  ///< of finished tensors that wait to be written
  bool check = true;  ///< read every slab back from its packed bytes before it leaves memory
};

/// The directory of one rank's artifact.
std::string rank_directory(std::int64_t rank, std::int64_t ranks);

struct ConvertedLayer {
  std::string module, from, to;  ///< rows of weight_formats(), "float" for dequantized weights
  Geometry before, after;
  std::string exactness;
  std::vector<std::string> notes;
};

struct ConvertReport {
  std::uint64_t source_bytes = 0;
  struct Artifact {
    std::string target;
    std::filesystem::path directory;
    std::uint64_t bytes = 0;
    std::int64_t shards = 0;
    std::vector<ConvertedLayer> layers;
    std::map<std::string, std::string> dropped;  ///< tensor -> why
    std::int64_t ranks = 1, rank = 0;

    /// "marlin", "marlin/rank-0-of-4".
    std::string name() const;
  };
  std::vector<Artifact> artifacts;
  std::vector<std::string> notes;  ///< what was found out about the source
  std::int64_t copied = 0;         ///< tensors that are no packed layer
  double seconds = 0;
};

/// Sees the finished artifacts before they appear at the destination; what it throws keeps them from
/// appearing.
using ConvertProof = std::function<void(const ConvertReport&)>;

/// Everything that can be refused is refused before any work, all refusals in one message. A failure leaves
/// nothing at the destination.
ConvertReport run_convert(const ConvertJob& job, const ConvertProof& prove = {},
                          const Progress& progress = {});

// What a plan has to know of the work.

/// Finished tensors may wait for the disk up to the size of the largest one and this, less what threads hold.
inline constexpr std::uint64_t kWaitingMemoryBytes = std::uint64_t{80} << 20;
/// Slabs under way at the same time hold about this much at most.
inline constexpr std::uint64_t kSlabMemoryBytes = std::uint64_t{32} << 20;
/// Besides twice the largest tensor a conversion holds about this much: what waits, pieces of layers, the
/// program.
inline constexpr std::uint64_t kFixedMemoryBytes = std::uint64_t{180} << 20;
/// The bytes of the largest tensor.
std::uint64_t largest_tensor(const Checkpoint& checkpoint);
/// Has an artifact of family `target` a place for this companion? `restores`: it is the source's own family.
bool keeps_companion(std::string_view target, bool restores, std::string_view suffix);
/// A pass over the module's tensors.
MatrixFacts facts_of(const PackedModule& module, const Checkpoint& checkpoint);

}  // namespace mpk
