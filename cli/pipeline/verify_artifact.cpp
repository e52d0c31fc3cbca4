#include "cli/pipeline/verify_artifact.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/arrangement.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/rank_tensors.hpp"
#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"
#include "packer/io/sha256.hpp"
#include "packer/manifest.hpp"
#include "packer/recode.hpp"
#include "packer/weight_format.hpp"
#include "verify/synthetic.hpp"

namespace mpk {
namespace {

/// The source must be the one the artifact was made from, and what was copied must be it still.
void compare_sources(const Manifest& manifest, const Checkpoint& artifact, const Checkpoint& source,
                     std::vector<std::string>& failures) {
  for (const SourceTensor& tensor : manifest.source) {
    if (!source.contains(tensor.name) || sha256(source.tensor(tensor.name).data) != tensor.sha256)
      failures.push_back(fmt::format("tensor {}: not the one of {} that was quantized", tensor.name,
                                     source.directory().filename().string()));
    else if (tensor.fate == Fate::copied &&
             (!artifact.contains(tensor.name) || sha256(artifact.tensor(tensor.name).data) != tensor.sha256))
      failures.push_back(fmt::format("tensor {}: no copy of the source's", tensor.name));
    else if (tensor.fate == Fate::rescaled && !artifact.contains(tensor.name))
      failures.push_back(fmt::format("tensor {}: missing", tensor.name));
  }
  if (source.names().size() != manifest.source.size())
    failures.push_back(fmt::format("the source has {} tensors, {} when it was read", source.names().size(),
                                   manifest.source.size()));
}

/// Walks the float model over the manifest's sample window and keeps each linear's input while its layer is
/// checked.
class SourceInputs {
 public:
  SourceInputs(const OpenModel& model, const std::vector<std::int32_t>& tokens)
      : decoder_{model.config, *model.weights} {
    if (!tokens.empty()) x_ = decoder_.embed(tokens);
  }

  void advance(std::int64_t index) {
    inputs_.clear();
    weights_.clear();
    layer_ = decoder_.load_layer(index);
    for (Linear* linear : layer_.linears()) weights_[linear->module] = &linear->weight;
    if (x_.size() == 0) return;
    decoder_.forward(layer_, x_.cols(), x_, [&](std::span<const Linear* const> linears, ConstMatrixRef x) {
      for (const Linear* linear : linears) inputs_[linear->module] = x;
    });
  }
  const MatrixF* weight(const std::string& module) const {
    const auto it = weights_.find(module);
    return it == weights_.end() ? nullptr : it->second;
  }
  const MatrixF* input(const std::string& module) const {
    const auto it = inputs_.find(module);
    return it == inputs_.end() ? nullptr : &it->second;
  }
  std::int64_t num_layers() const { return decoder_.config().num_layers; }

 private:
  Decoder decoder_;
  DecoderLayer layer_;
  MatrixF x_;
  std::map<std::string, const MatrixF*> weights_;
  std::map<std::string, MatrixF> inputs_;
};

/// The tensors of a recorded layer, of one of its experts if it has some.
PartViews parts_of(const ManifestLayer& record, const Checkpoint& artifact, std::int64_t expert) {
  PartViews parts;
  const std::string prefix = record.module + record.separator;
  const auto& names = artifact.names();
  for (auto it = std::ranges::lower_bound(names, prefix); it != names.end() && it->starts_with(prefix);
       ++it) {
    const std::string& name = *it;
    const std::string suffix = name.substr(prefix.size());
    if (suffix.find('.') != std::string::npos || is_companion(suffix)) continue;
    const TensorView tensor = artifact.tensor(name);
    parts.emplace(suffix, record.experts == 0 ? tensor : slice(tensor, expert));
  }
  return parts;
}

/// Biases and scales of activations, in the view's columns.
void compare_companions(const LayerView& view, const ManifestLayer& record, const Checkpoint& artifact,
                        const Checkpoint& source, std::vector<std::string>& failures) {
  for (const std::string& suffix : view.columns->pieces.front().module->companions) {
    const std::string name = record.tensor_name(suffix);
    if (!artifact.contains(name)) continue;  // some formats have no place for it
    if (!std::ranges::equal(companion_of(view, source, suffix).data, artifact.tensor(name).data))
      failures.push_back(fmt::format("tensor {}: other numbers than the source's", name));
  }
}

/// A converted artifact's layers are the source's, put into another form: doing that again must give the same
/// numbers, to the bit.
void compare_with_packed(const Manifest& manifest, const Checkpoint& artifact, const PackedCheckpoint& source,
                         const Progress& progress, std::vector<std::string>& failures) {
  std::int64_t done = 0;
  const bool has_biases =
      !manifest.tensor_parallel || manifest.tensor_parallel->rank == manifest.tensor_parallel->bias_rank;
  const auto compare = [&](const ManifestLayer& record) {
    const WeightFormat* format = weight_format_named(record.layout);
    if (!format) throw Error{ErrorKind::mismatch, fmt::format("there is no format {}", record.layout)};
    LayerView view = view_of_record(record, source);
    view.has_bias = has_biases || !record.part || record.part->split != name_of(Split::rows);
    const Geometry to{record.scheme, record.k, record.n};
    for (std::int64_t expert = 0; expert < std::max<std::int64_t>(1, record.experts); ++expert) {
      ColumnReader read{source.checkpoint(), expert};
      read.prepare(*view.columns);
      const QuantizedMatrix expected =
          recode(rows_of(view, read(*view.columns, {0, view.geometry.n.value})), view.geometry, to);
      const QuantizedMatrix found =
          read_columns({format, to}, parts_of(record, artifact, expert), {0, to.n.value});
      if (!same_bits(expected, found))
        failures.push_back(fmt::format("{}: other numbers than the source's", record.module));
    }
    compare_companions(view, record, artifact, source.checkpoint(), failures);
  };
  for (const ManifestLayer& record : manifest.layers) {
    if (progress) progress("compare", ++done, std::ssize(manifest.layers), record.module);
    try {
      compare(record);
    } catch (const Error& error) {
      failures.push_back(fmt::format("{}: {}", record.module, error.what()));
    }
  }
  if (!manifest.tensor_parallel) return;
  const auto& [ranks, rank, bias_rank] = *manifest.tensor_parallel;
  const Heads heads = heads_of(source.checkpoint().config());
  std::set<std::string> packed;
  for (const PackedModule& module : source.modules())
    for (const auto* suffixes : {&module.suffixes, &module.companions})
      for (const std::string& suffix : *suffixes) packed.insert(module.tensor_name(suffix));
  for (const SourceTensor& tensor : manifest.source) {
    if (tensor.fate != Fate::converted || packed.contains(tensor.name) || source.rank_of_model()) continue;
    const RankTensor part = rank_tensor(source.checkpoint(), tensor.name, heads, ranks, rank);
    if (!artifact.contains(tensor.name) ||
        !std::ranges::equal(cut(source.checkpoint().tensor(tensor.name), part).data,
                            artifact.tensor(tensor.name).data))
      failures.push_back(fmt::format("tensor {}: not this rank's part of the source's", tensor.name));
  }
}

VerifyReport verify_files(const VerifyJob& job, const CheckOptions& checks, const Progress& progress) {
  const Manifest manifest = read_manifest(job.artifact);
  const Checkpoint artifact = Checkpoint::open(job.artifact);
  VerifyReport report;
  report.format = manifest.format;
  report.integrity = check_integrity(job.artifact, manifest, artifact);

  std::map<std::string, const ManifestLayer*> pending;
  for (const ManifestLayer& record : manifest.layers) pending.emplace(record.module, &record);
  const auto check = [&](const ManifestLayer& record) {
    CheckedLayer checked;
    for (std::int64_t expert = 0; expert < std::max<std::int64_t>(1, record.experts); ++expert) {
      checked = check_layer(record, parts_of(record, artifact, expert), checks);
      if (record.experts != 0) checked.check.module += fmt::format("[{}]", expert);
      report.layers.push_back(std::move(checked.check));
    }
    pending.erase(record.module);
    if (progress) progress("verify", std::ssize(report.layers), std::ssize(manifest.layers), record.module);
    return std::move(checked.matrix);
  };

  if (!job.source) {
    for (const ManifestLayer& record : manifest.layers) check(record);
    return report;
  }
  if (manifest.origin) {
    const PackedCheckpoint source = PackedCheckpoint::open(*job.source);
    compare_sources(manifest, artifact, source.checkpoint(), report.failures);
    for (const ManifestLayer& record : manifest.layers) check(record);
    compare_with_packed(manifest, artifact, source, progress, report.failures);
    return report;
  }
  const OpenModel source = open_model(*job.source);
  compare_sources(manifest, artifact, source.checkpoint, report.failures);
  SourceInputs inputs{source, manifest.sample_tokens};
  for (std::int64_t index = 0; index < inputs.num_layers(); ++index) {
    inputs.advance(index);
    for (const ManifestLayer& record : manifest.layers)
      if (const MatrixF* weight = inputs.weight(record.module); weight && pending.contains(record.module)) {
        const QuantizedMatrix matrix = check(record);
        if (matrix.codes.size() > 0)
          check_against_source(report.layers.back(), record, matrix, *weight, inputs.input(record.module));
      }
  }
  for (const auto& [module, record] : pending)
    report.failures.push_back(fmt::format("{}: the source has no such layer", module));
  return report;
}

VerifyReport verify_shapes(const VerifyJob& job, const CheckOptions& checks, const Progress& progress) {
  const WeightFormat& format = *weight_format_named("marlin");
  VerifyReport report;
  report.format = format.name;
  std::vector<Scheme> schemes;
  for (const ScalarType type : {kU4B8, kU8B128})
    for (const std::optional<GroupSize> group : {std::optional{GroupSize{128}}, std::optional<GroupSize>{}})
      schemes.push_back({type, group, DType::F16});
  const auto total = std::ssize(job.shapes) * std::ssize(schemes);
  for (const LinearShape& shape : job.shapes)
    for (const Scheme& scheme : schemes) {
      const SyntheticLayer layer = synthetic_layer(format, scheme, shape.k, shape.n, checks.seed);
      report.layers.push_back(check_layer(layer.record, views_of(layer.parts), checks).check);
      if (progress) progress("verify", std::ssize(report.layers), total, layer.record.module);
    }
  return report;
}

}  // namespace

VerifyReport run_verify(const VerifyJob& job, const Progress& progress) {
  CheckOptions checks = job.checks;
  checks.use_gpu = decide_gpu(job.device);
  VerifyReport report =
      job.shapes.empty() ? verify_files(job, checks, progress) : verify_shapes(job, checks, progress);
  if (!checks.use_gpu && job.device == Device::automatic)
    report.note = "products by the CPU decoder, no GPU: " + gpu_status().reason;
  return report;
}

}  // namespace mpk
