#include "cli/pipeline/quantize_output.hpp"

#include <algorithm>
#include <charconv>
#include <omp.h>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "cli/pipeline/float_matrix.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/quantize_plan.hpp"
#include "cli/version.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/io/mapped_file.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

/// Each has a second one beside it that hashes what it writes (checkpoint_writer.cpp).
constexpr int kMaxWriters = 4;

int num_writers() {
  return std::clamp(omp_get_max_threads() / 2, 1, kMaxWriters);
}

/// "model.layers.17.mlp.down_proj.weight" -> 17
std::optional<std::int64_t> layer_of(std::string_view tensor) {
  constexpr std::string_view kLayers = ".layers.";
  const auto found = tensor.find(kLayers);
  if (found == std::string_view::npos) return std::nullopt;
  const char* begin = tensor.data() + found + kLayers.size();
  std::int64_t layer = 0;
  const auto [end, error] = std::from_chars(begin, tensor.data() + tensor.size(), layer);
  if (error != std::errc{} || end == tensor.data() + tensor.size() || *end != '.') return std::nullopt;
  return layer;
}

void mark_rescaled(SourceTensor& tensor) {
  tensor.fate = Fate::rescaled;
  tensor.reason = "divided by the input scales of the layers that read it";
}

/// Of a solved linear that waits, and of what it is encoded to.
std::uint64_t bytes_held(const QuantizedMatrix& matrix, const std::vector<const WeightFormat*>& formats) {
  auto bytes = static_cast<std::uint64_t>(matrix.codes.size() + 4 * matrix.scales.size() +
                                          2 * matrix.zero_points.size());
  for (const WeightFormat* format : formats)
    for (const PartSpec& part : format->specs(matrix.scheme, matrix.k(), matrix.n()))
      bytes += num_bytes(part);
  return bytes;
}

}  // namespace

QuantizeOutput::QuantizeOutput(const QuantizeJob& job, const Checkpoint& source, SourcePlan& plan,
                               std::int64_t num_layers, const fs::path& directory, QuantizeJournal& journal,
                               std::function<void()> before_note)
    : job_{job},
      source_{source},
      journal_{journal},
      before_note_{std::move(before_note)},
      plan_{plan},
      threads_per_writer_{std::max(1, omp_get_max_threads() / num_writers())},
      units_(static_cast<std::size_t>(num_layers + 1)),
      queue_{num_writers(), kWaitingBytes} {
  for (const WeightFormat* format : job.formats) {
    const fs::path own = job.formats.size() == 1 ? directory : directory / format->name;
    fs::create_directories(own);
    artifacts_.push_back(std::make_unique<ArtifactWriter>(
        own, output_specs(*format, plan), job.max_shard_bytes,
        journal.finished().empty() ? CheckpointWriter::Begin::anew : CheckpointWriter::Begin::where_it_was));
  }
  for (SourceTensor& tensor : plan.tensors) {
    const std::int64_t layer = layer_of(tensor.name).value_or(num_layers);
    units_[static_cast<std::size_t>(std::clamp<std::int64_t>(layer, 0, num_layers))].tensors.push_back(
        &tensor);
  }
  for (std::int64_t i = 0; i <= num_layers; ++i) units_[static_cast<std::size_t>(i)].index = i;
  // Layers behind a gap were finished out of order by the background; they come again.
  while (finished_layers_ < num_layers && journal.finished().contains(finished_layers_)) ++finished_layers_;
  for (const auto& [index, finished] : journal.finished())
    if (index < finished_layers_ || index == num_layers) adopt(finished);
  queue_.drain();
}

void QuantizeOutput::adopt(const FinishedUnit& finished) {
  Unit& unit = units_.at(static_cast<std::size_t>(finished.unit));
  unit.finished = true;
  unit.layers.assign(finished.layers.begin(), finished.layers.end());
  for (SourceTensor* tensor : unit.tensors) {
    tensor->sha256 = finished.source.at(tensor->name);
    if (std::ranges::find(finished.rescaled, tensor->name) != finished.rescaled.end()) mark_rescaled(*tensor);
  }
  for (std::size_t i = 0; i < artifacts_.size(); ++i)
    for (const auto& [name, digest] : finished.written.at(i))
      queue_.push(
          0, [&artifact = *artifacts_[i], &name = name, &digest = digest] { artifact.adopt(name, digest); });
}

std::vector<SolvedLinear> QuantizeOutput::read_layer(std::int64_t layer) const {
  const ArtifactWriter& artifact = *artifacts_.front();
  const WeightFormat& format = *job_.formats.front();
  std::vector<SolvedLinear> linears;
  for (const ManifestLayer& record : units_.at(static_cast<std::size_t>(layer)).layers)
    within("module " + record.module, [&] {
      PartViews parts;
      for (const PartSpec& part : format.specs(record.scheme, record.k, record.n))
        parts.emplace(part.suffix, artifact.read(record.tensor_name(part.suffix)));
      linears.push_back({record.module,
                         {format.decode(parts, record.scheme, record.k, record.n)},
                         0,
                         {record.input_scales, record.output_scales}});
      for (const auto& [suffix, view] : parts) MappedFile::release(view.data);
    });
  return linears;
}

RewrittenNorms QuantizeOutput::read_norms(std::int64_t layer) const {
  RewrittenNorms norms;
  for (const SourceTensor* tensor : units_.at(static_cast<std::size_t>(layer)).tensors)
    if (tensor->fate == Fate::rescaled)
      norms[tensor->name] = float_matrix(artifacts_.front()->read(tensor->name)).col(0);
  return norms;
}

void QuantizeOutput::push(Unit& unit, std::uint64_t bytes, std::function<void()> job) {
  ++unit.open;
  queue_.push(bytes, [this, &unit, job = std::move(job)] {
    omp_set_num_threads(threads_per_writer_);  // of this thread: it would take all there are, each time
    job();
    end(unit);
  });
}

void QuantizeOutput::end(Unit& unit) {
  if (--unit.open == 0) note(unit);
}

/// After the last of its bytes: first they get to the disk, then the journal.
void QuantizeOutput::note(const Unit& unit) {
  FinishedUnit finished{unit.index, {unit.layers.begin(), unit.layers.end()}, {}, {}, {}};
  finished.written.resize(artifacts_.size());
  for (const SourceTensor* tensor : unit.tensors) {
    finished.source[tensor->name] = tensor->sha256;
    if (tensor->fate == Fate::rescaled) finished.rescaled.push_back(tensor->name);
    if (tensor->fate != Fate::copied && tensor->fate != Fate::rescaled) continue;
    for (std::size_t i = 0; i < artifacts_.size(); ++i)
      finished.written[i][tensor->name] = artifacts_[i]->sha256(tensor->name);
  }
  for (std::size_t i = 0; i < artifacts_.size(); ++i)
    for (const ManifestLayer& layer : unit.layers)
      for (const PartSpec& part : job_.formats[i]->specs(layer.scheme, layer.k, layer.n)) {
        const std::string name = layer.tensor_name(part.suffix);
        finished.written[i][name] = artifacts_[i]->sha256(name);
      }
  for (const auto& artifact : artifacts_) artifact->flush();
  before_note_();
  journal_.append(finished);
}

void QuantizeOutput::write_rest() {
  if (units_.back().finished) return;
  copy_or_hash(units_.back());
  end(units_.back());
}

void QuantizeOutput::write(std::int64_t layer, SolvedLinear solved) {
  const PlannedLayer& planned = plan_.layers.at(solved.module);
  Unit& unit = units_.at(static_cast<std::size_t>(layer));
  ManifestLayer& record = unit.layers.emplace_back(
      ManifestLayer{solved.module, planned.scheme, planned.k, planned.n, {}, {}, solved.weight_error});
  if (job_.method->needs_hessian) {
    record.relative_loss = solved.result.relative_loss;
    record.damp = solved.result.damp;
  }
  record.expert_tokens = solved.expert_tokens;
  record.input_scales = std::move(solved.folded.inputs);
  record.output_scales = std::move(solved.folded.outputs);
  const std::uint64_t bytes = bytes_held(solved.result.matrix, job_.formats);
  queue_.wait_for_room(bytes);
  const auto matrix = std::make_shared<QuantizedMatrix>(std::move(solved.result.matrix));
  push(unit, bytes, [this, matrix, &record] {
    within("module " + record.module, [&] {
      record.codes_sha256 = sha256_of_codes(matrix->codes);
      for (std::size_t i = 0; i < artifacts_.size(); ++i) {
        const WeightFormat& format = *job_.formats[i];
        const auto parts =
            within(std::string{"format "} + format.name, [&] { return format.encode(*matrix); });
        for (const Part& part : parts)
          artifacts_[i]->write(record.tensor_name(part.suffix), part.tensor.view());
      }
    });
  });
}

void QuantizeOutput::end_layer(std::int64_t layer, const RewrittenNorms& norms) {
  Unit& unit = units_.at(static_cast<std::size_t>(layer));
  for (const auto& [name, values] : norms)
    rewrite(**std::ranges::find(unit.tensors, name, &SourceTensor::name), values);
  copy_or_hash(unit);
  end(unit);
}

void QuantizeOutput::rewrite(SourceTensor& tensor, const Eigen::VectorXf& values) {
  const TensorView view = source_.tensor(tensor.name);
  Tensor rewritten{view.dtype, view.shape, std::vector<std::byte>(view.data.size())};
  for (Eigen::Index i = 0; i < values.size(); ++i)
    store_rounded(values(i), rewritten.dtype,
                  rewritten.data.data() + static_cast<std::size_t>(i) * bytes_of(rewritten.dtype));
  for (const auto& artifact : artifacts_) artifact->write(tensor.name, rewritten.view());
  mark_rescaled(tensor);
}

void QuantizeOutput::copy_or_hash(Unit& unit) {
  for (SourceTensor* tensor : unit.tensors) {
    const TensorView view = source_.tensor(tensor->name);
    queue_.wait_for_room(view.data.size());
    push(unit, view.data.size(), [this, tensor, view] {
      if (tensor->fate == Fate::copied) {
        for (const auto& artifact : artifacts_) artifact->write(tensor->name, view);
        tensor->sha256 = artifacts_.front()->sha256(tensor->name);
      } else {
        tensor->sha256 = sha256(view.data);
      }
      source_.release(tensor->name);
    });
  }
}

void QuantizeOutput::finish(const nlohmann::ordered_json& recipe,
                            const std::vector<std::int32_t>& sample_tokens) {
  queue_.drain();
  for (std::size_t i = 0; i < artifacts_.size(); ++i) {
    const WeightFormat& format = *job_.formats[i];
    artifacts_[i]->finish(
        source_, {format.quantization_config(schemes()), {}, {}},
        {kVersion, format.name, recipe, sample_tokens, layers_as(format), {}, plan_.tensors, {}});
  }
}

std::vector<ManifestLayer> QuantizeOutput::layers_as(const WeightFormat& format) const {
  std::vector<ManifestLayer> layers;
  for (const Unit& unit : units_)
    for (const ManifestLayer& layer : unit.layers) layers.emplace_back(layer).layout = format.name;
  return layers;
}

CheckpointSchemes QuantizeOutput::schemes() const {
  CheckpointSchemes schemes{job_.recipe.scheme, {}, {plan_.kept.begin(), plan_.kept.end()}};
  for (const SourceTensor& tensor : plan_.tensors)  // routers and heads, which engines would look for packed
    if (tensor.fate == Fate::copied)
      if (auto module = float_linear(tensor.name, tensor.dtype, tensor.shape))
        schemes.unquantized.insert(*std::move(module));
  for (const auto& [module, layer] : plan_.layers)
    if (layer.scheme != job_.recipe.scheme) schemes.exceptions.emplace(module, layer.scheme);
  return schemes;
}

}  // namespace mpk
