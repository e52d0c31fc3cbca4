#pragma once
// What quantize writes: one artifact per format, filled in the background while the engine works on the next
// layer. The bytes do not depend on the order in which that happens. What is on disk is noted in a journal,
// so that another run can go on after it.

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/pipeline/artifact_writer.hpp"
#include "cli/pipeline/layer_solver.hpp"
#include "cli/pipeline/quantize_job.hpp"
#include "cli/pipeline/quantize_journal.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "cli/pipeline/write_queue.hpp"

namespace mpk {

class QuantizeOutput {
 public:
  /// Of layers on their way to the disk and of source tensors on their way through the hash.
  static constexpr std::uint64_t kWaitingBytes = std::uint64_t{1} << 30;

  /// Creates all tensor files in `directory` (in directory/FORMAT each if there are several formats), or goes
  /// on with what an earlier run wrote there, as `journal` has it. `before_note()` is called, from any
  /// thread, before a unit is noted. Fills in what `plan` leaves open: hashes of the source's tensors,
  /// norms that were rewritten. All references must outlive this object.
  QuantizeOutput(const QuantizeJob& job, const Checkpoint& source, SourcePlan& plan, std::int64_t num_layers,
                 const std::filesystem::path& directory, QuantizeJournal& journal,
                 std::function<void()> before_note);
  QuantizeOutput(const QuantizeOutput&) = delete;
  QuantizeOutput& operator=(const QuantizeOutput&) = delete;

  // From one thread. What fails in the background is thrown by a later call.

  /// How many layers, from the first on, an earlier run finished. They must not be written again.
  std::int64_t finished_layers() const { return finished_layers_; }
  /// What one of them became.
  std::vector<SolvedLinear> read_layer(std::int64_t layer) const;
  RewrittenNorms read_norms(std::int64_t layer) const;

  /// Copies and hashes what belongs to no decoder layer, if no earlier run did.
  void write_rest();
  /// Encodes and writes. Blocks while what waits to be written takes too much memory.
  void write(std::int64_t layer, SolvedLinear solved);
  /// Once per layer, when all of its linears have been handed over: its other tensors.
  void end_layer(std::int64_t layer, const RewrittenNorms& norms);
  /// Waits for all that, then writes the manifests and the files beside the tensors.
  void finish(const nlohmann::ordered_json& recipe, const std::vector<std::int32_t>& sample_tokens);

  const std::vector<std::unique_ptr<ArtifactWriter>>& artifacts() const { return artifacts_; }
  /// In the order in which they were handed over, as the first format stores them; after finish().
  std::vector<ManifestLayer> layers() const { return layers_as(*job_.formats.front()); }

 private:
  /// A decoder layer, or what belongs to none.
  struct Unit {
    std::int64_t index = 0;
    std::vector<SourceTensor*> tensors;  ///< of the plan
    std::deque<ManifestLayer> layers;    ///< without layout; elements stay where they are
    std::atomic<int> open = 1;           ///< jobs under way, and the caller until it has handed over all
    bool finished = false;               ///< by an earlier run
  };
  void adopt(const FinishedUnit& finished);
  void push(Unit& unit, std::uint64_t bytes, std::function<void()> job);
  void end(Unit& unit);
  void note(const Unit& unit);
  void copy_or_hash(Unit& unit);
  void rewrite(SourceTensor& tensor, const Eigen::VectorXf& values);
  std::vector<ManifestLayer> layers_as(const WeightFormat& format) const;
  CheckpointSchemes schemes() const;

  const QuantizeJob& job_;
  const Checkpoint& source_;
  QuantizeJournal& journal_;
  std::function<void()> before_note_;
  std::int64_t finished_layers_ = 0;
  SourcePlan& plan_;
  std::vector<std::unique_ptr<ArtifactWriter>> artifacts_;  ///< one per format
  int threads_per_writer_;
  std::deque<Unit> units_;  ///< the decoder layers, then what belongs to none
  WriteQueue queue_;        ///< last: its jobs use the others
};

}  // namespace mpk
