#include "cli/pipeline/convert.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/artifact_writer.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/write_queue.hpp"
#include "cli/version.hpp"
#include "packer/float_weights.hpp"
#include "packer/format/error.hpp"
#include "packer/io/sha256.hpp"
#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

/// One layer on its way into one target.
struct LayerPlan {
  const PackedModule* module = nullptr;
  std::optional<Route> way;  ///< nullopt: to floats
  DType float_dtype = DType::F32;
  std::vector<PartSpec> parts;             ///< of one matrix
  std::vector<std::string> companions;     ///< suffixes copied from the source
  std::map<std::string, Tensor> restored;  ///< suffix -> what the manifest kept, instead of what is computed
  ManifestLayer record;
};

struct TargetPlan {
  std::string name;
  bool restores = false;  ///< it is the family that the source, or the source's source, has
  std::vector<LayerPlan> layers;
  std::map<std::string, std::string> dropped;
  std::vector<TensorSpec> specs;
  std::unique_ptr<ArtifactWriter> writer;
};

bool is_float(const TargetPlan& target) {
  return target.name == kFloatTarget;
}

/// Columns that pass through the cache together: about 2 MB of codes.
std::vector<ColumnRange> slabs_of(const Geometry& geometry) {
  const std::int64_t fitting = (std::int64_t{2} << 20) / geometry.k.value / kColumnUnit * kColumnUnit;
  const std::int64_t width = std::max(kColumnUnit, fitting);
  std::vector<ColumnRange> slabs;
  for (std::int64_t first = 0; first < geometry.n.value; first += width)
    slabs.push_back({first, std::min(width, geometry.n.value - first)});
  return slabs;
}

class Conversion {
 public:
  Conversion(const ConvertJob& job, const Progress& progress)
      : job_{job}, progress_{progress}, source_{PackedCheckpoint::open(job.source, job.zeros)} {
    if (source_.modules().empty())
      throw Error{ErrorKind::unsupported,
                  fmt::format("{}: no packed layers of a format that is read here (marlin-pack formats lists "
                              "them); a float checkpoint is packed by marlin-pack quantize",
                              job.source.string())};
    collect_plain_tensors();
    for (const std::string& target : job.targets) plan_target(target);
    refuse_together();
  }

  ConvertReport operator()(const ConvertProof& prove) {
    const auto begin = std::chrono::steady_clock::now();
    StagingDirectory staging{job_.destination};
    for (TargetPlan& target : targets_) {
      const fs::path directory = targets_.size() == 1 ? staging.path() : staging.path() / target.name;
      fs::create_directories(directory);
      target.writer = std::make_unique<ArtifactWriter>(directory, target.specs, job_.max_shard_bytes);
    }
    {
      read_ahead(0);
      WriteQueue queue{2, std::min(job_.memory_bytes, budget())};
      std::int64_t done = 0;
      const auto total = static_cast<std::int64_t>(source_.modules().size());
      for (std::size_t i = 0; i < source_.modules().size(); ++i) {
        within("module " + source_.modules()[i].name, [&] { convert_module(i, queue); });
        if (progress_) progress_("convert", ++done, total, source_.modules()[i].name);
      }
      for (const std::string& name : plain_) copy_plain(name, queue);
      queue.drain();
    }
    for (TargetPlan& target : targets_) finish(target);
    report_.notes = source_.notes();
    report_.copied = std::ssize(plain_);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (prove) prove(report_);
    staging.publish();
    for (std::size_t i = 0; i < targets_.size(); ++i)
      report_.artifacts[i].directory =
          targets_.size() == 1 ? job_.destination : job_.destination / targets_[i].name;
    return std::move(report_);
  }

 private:
  void collect_plain_tensors() {
    std::set<std::string> taken;
    for (const PackedModule& module : source_.modules()) {
      for (const std::string& suffix : module.suffixes) taken.insert(module.tensor_name(suffix));
      for (const std::string& suffix : module.companions) taken.insert(module.tensor_name(suffix));
    }
    for (const std::string& name : source_.checkpoint().names())
      if (!taken.contains(name)) {
        plain_.push_back(name);
        record_source(name, {}, Fate::copied);  // its hash is the copy's
      }
  }

  // ---- planning

  const MatrixFacts& facts_of(const PackedModule& module) {
    const auto [it, is_new] = facts_.try_emplace(module.name);
    if (is_new) it->second = mpk::facts_of(module, source_.checkpoint());
    return it->second;
  }

  void plan_target(const std::string& asked) {
    TargetPlan target;
    target.name = asked == kOriginTarget ? source_.origin().family : asked;
    target.restores = target.name == source_.origin().family;
    const auto rows = family_rows(target.name);
    if (!is_float(target) && rows.empty())
      throw Error{ErrorKind::usage, fmt::format("--to {}: there is no such format to write", target.name)};
    for (const PackedModule& module : source_.modules())
      target.layers.push_back(is_float(target)  ? plan_float(module)
                              : target.restores ? plan_restored(module)
                                                : plan_recoded(module, rows, target.name));
    for (LayerPlan& layer : target.layers) {
      if (layer.way) {
        layer.record.scheme = layer.way->to.scheme;
        layer.record.k = layer.way->to.k;
        layer.record.n = layer.way->to.n;
        layer.record.layout = layer.way->format->name;
        layer.record.exactness = layer.way->exactness();
      }
      place_companions(target, layer);
      add_specs(target.specs, layer.record, layer.parts);
      for (const std::string& suffix : layer.companions) {
        const TensorView tensor = source_.checkpoint().tensor(layer.module->tensor_name(suffix));
        target.specs.push_back({layer.module->tensor_name(suffix), tensor.dtype, tensor.shape});
      }
      for (const auto& [suffix, tensor] : layer.restored)
        if (std::ranges::find(layer.parts, suffix, &PartSpec::suffix) == layer.parts.end())
          target.specs.push_back({layer.module->tensor_name(suffix), tensor.dtype, tensor.shape});
    }
    for (const std::string& name : plain_) {
      const TensorView tensor = source_.checkpoint().tensor(name);
      target.specs.push_back({name, tensor.dtype, tensor.shape});
    }
    std::ranges::sort(target.specs, {}, &TensorSpec::name);
    targets_.push_back(std::move(target));
  }

  LayerPlan begin(const PackedModule& module) const {
    LayerPlan layer;
    layer.module = &module;
    layer.record.module = module.name;
    layer.record.separator = module.separator;
    layer.record.experts = module.experts;
    layer.record.origin = source_.origin_of(module);
    return layer;
  }

  LayerPlan plan_float(const PackedModule& module) const {
    LayerPlan layer = begin(module);
    const auto& [scheme, k, n] = module.stored.geometry;
    layer.float_dtype = job_.float_dtype.value_or(float_dtype_of(scheme, source_.model_dtype()));
    // A stack of experts is (experts, K, N) in float checkpoints, and its name has no suffix.
    layer.parts = {{"weight", layer.float_dtype, {n.value, k.value}}};
    if (module.experts != 0) {
      layer.parts = {{"", layer.float_dtype, {k.value, n.value}}};
      layer.record.separator = "";
    }
    layer.record.exactness = "exact";
    return layer;
  }

  LayerPlan plan_recoded(const PackedModule& module, const std::vector<const WeightFormat*>& rows,
                         const std::string& target) {
    LayerPlan layer = begin(module);
    const Geometry& from = module.stored.geometry;
    const bool look = job_.recode.scale_dtype.has_value() ||
                      needs_facts(module.stored.format->lowest_zero, from.scheme, rows);
    auto way = within("module " + module.name, [&] {
      RecodeOptions options = job_.recode;
      options.preferred_scale_dtype = source_.model_dtype() == DType::F16 ? DType::F16 : DType::BF16;
      return find_route(from, look ? facts_of(module) : MatrixFacts{}, rows, options);
    });
    if (const auto* why = std::get_if<std::string>(&way)) {
      refusals_.push_back(fmt::format("{} to {}: {}", module.name, target, *why));
      return layer;
    }
    layer.way = std::get<Route>(std::move(way));
    layer.parts = layer.way->format->specs(layer.way->to.scheme, layer.way->to.k, layer.way->to.n);
    return layer;
  }

  /// The tensors as they once were, spelling included.
  LayerPlan plan_restored(const PackedModule& module) const {
    LayerPlan layer = begin(module);
    const LayerOrigin& origin = *layer.record.origin;
    const WeightFormat* format = weight_format_named(origin.layout);
    if (!format || !format->writes())
      throw Error{ErrorKind::unsupported,
                  fmt::format("module {} came as {}, which is not written here", module.name, origin.layout)};
    layer.way = Route{format, {origin.scheme, origin.k, origin.n}};
    layer.parts = origin.parts;
    layer.restored = origin.kept;
    return layer;
  }

  void place_companions(TargetPlan& target, LayerPlan& layer) const {
    for (const std::string& suffix : layer.module->companions) {
      const std::string name = layer.module->tensor_name(suffix);
      if (layer.restored.contains(suffix)) continue;
      if (keeps_companion(target.name, target.restores, suffix)) {
        layer.companions.push_back(suffix);
      } else {
        target.dropped[name] = fmt::format("{} has no place for it", target.name);
      }
    }
  }

  void refuse_together() const {
    if (refusals_.empty()) return;
    std::string text = fmt::format("{} layer{} cannot be converted; nothing was written", refusals_.size(),
                                   refusals_.size() == 1 ? "" : "s");
    constexpr std::size_t kShown = 8;
    for (std::size_t i = 0; i < std::min(kShown, refusals_.size()); ++i) text += "\n  " + refusals_[i];
    if (refusals_.size() > kShown) text += fmt::format("\n  and {} more", refusals_.size() - kShown);
    throw Error{ErrorKind::unsupported, text};
  }

  // ---- the work

  /// Finished tensors may wait up to this size: with the source's and the next one's bytes in memory as well,
  /// about twice the largest tensor and a fixed sum.
  std::uint64_t budget() const { return largest_tensor(source_.checkpoint()) + kFixedMemoryBytes; }

  void convert_module(std::size_t index, WriteQueue& queue) {
    const PackedModule& module = source_.modules()[index];
    const auto ahead = std::async(std::launch::async, [&] { read_ahead(index + 1); });
    std::vector<std::vector<Part>> made;
    std::uint64_t bytes = 0;
    for (const TargetPlan& target : targets_) {
      std::vector<PartSpec> stacked = target.layers[index].parts;
      if (module.experts != 0)
        for (PartSpec& part : stacked) part.shape.insert(part.shape.begin(), module.experts);
      for (const PartSpec& part : stacked) bytes += num_bytes(part);
      queue.wait_for_room(bytes);
      made.push_back(allocate(stacked));
    }
    for (std::int64_t expert = 0; expert < module.num_matrices(); ++expert)
      convert_matrix(index, module.parts(source_.checkpoint(), expert), expert, made);
    for (std::size_t t = 0; t < targets_.size(); ++t)
      write_parts(targets_[t], index, std::move(made[t]), queue);
    hash_source(
        module);  // beside the result's hash: each is one thread's work from the first byte to the last
  }

  void convert_matrix(std::size_t index, const PartViews& parts, std::int64_t expert,
                      std::vector<std::vector<Part>>& made) const {
    const PackedModule& module = source_.modules()[index];
    std::vector<PartBuffers> buffers;
    for (std::vector<Part>& target : made) buffers.push_back(matrix_buffers(target, module.experts, expert));
    const std::vector<ColumnRange> slabs = slabs_of(module.stored.geometry);
    const auto convert = [&](const ColumnRange& slab) {
      const QuantizedMatrix columns = read_columns(module.stored, parts, slab);
      for (std::size_t t = 0; t < targets_.size(); ++t)
        within("target " + targets_[t].name,
               [&] { convert_slab(targets_[t].layers[index], columns, buffers[t]); });
    };
    convert(slabs.front());  // alone: it also writes what all columns share
    parallel_for(std::ssize(slabs) - 1,
                 [&](std::int64_t i) { convert(slabs[static_cast<std::size_t>(i) + 1]); });
  }

  static PartBuffers matrix_buffers(std::vector<Part>& parts, std::int64_t experts, std::int64_t expert) {
    PartBuffers buffers = buffers_of(parts);
    if (experts == 0) return buffers;
    for (auto& [suffix, buffer] : buffers) {
      const std::size_t bytes = buffer.data.size() / static_cast<std::size_t>(experts);
      buffer.data = buffer.data.subspan(static_cast<std::size_t>(expert) * bytes, bytes);
      buffer.shape.erase(buffer.shape.begin());
    }
    return buffers;
  }

  void convert_slab(const LayerPlan& layer, const QuantizedMatrix& columns, const PartBuffers& out) const {
    const Geometry& from = layer.module->stored.geometry;
    if (!layer.way) {
      write_floats(columns, layer, out.begin()->second);
      return;
    }
    const Geometry& to = layer.way->to;
    const bool changes = to != from;
    const QuantizedMatrix recoded = changes ? recode(columns, from, to) : QuantizedMatrix{};
    const QuantizedMatrix& matrix = changes ? recoded : columns;
    layer.way->format->write(matrix, to, out);
    if (job_.check) check_slab(layer, matrix, out);
  }

  static void write_floats(const QuantizedMatrix& columns, const LayerPlan& layer, const PartBuffer& out) {
    const N n = layer.module->stored.geometry.n;
    if (layer.module->experts == 0) {
      write_float_weights(columns, layer.float_dtype, n, out.data);
    } else {
      write_float_weights_transposed(columns, layer.float_dtype, n, out.data);
    }
  }

  /// What was just packed must read as what went in.
  static void check_slab(const LayerPlan& layer, const QuantizedMatrix& matrix, const PartBuffers& out) {
    PartViews views;
    for (const auto& [suffix, buffer] : out)
      views.emplace(suffix, TensorView{buffer.dtype, buffer.shape, buffer.data});
    const Geometry& to = layer.way->to;
    QuantizedMatrix back = make_matrix(to.scheme, to.k, matrix.n(), matrix.first_column);
    layer.way->format->read(views, to, back);
    if (!same_bits(back, matrix))
      throw Error{
          ErrorKind::mismatch,
          fmt::format("columns {} to {} read back from {} differ from what was packed", matrix.first_column,
                      matrix.first_column + matrix.n().value, layer.way->format->name)};
  }

  /// The disk is busy while the processor is.
  void read_ahead(std::size_t index) const {
    if (index >= source_.modules().size()) return;
    const PackedModule& module = source_.modules()[index];
    for (const std::string& suffix : module.suffixes)
      source_.checkpoint().read_ahead(module.tensor_name(suffix));
  }

  void hash_source(const PackedModule& module) {
    std::vector<std::string> names;
    for (const std::string& suffix : module.suffixes) names.push_back(module.tensor_name(suffix));
    std::vector<std::string> hashes(names.size());
    parallel_for(std::ssize(names), [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      hashes[at] = sha256(source_.checkpoint().tensor(names[at]).data);
    });
    for (std::size_t i = 0; i < names.size(); ++i) {
      record_source(names[i], hashes[i], Fate::converted);
      source_.checkpoint().release(names[i]);
    }
  }

  void record_source(const std::string& name, std::string hash, Fate fate) {
    const TensorView tensor = source_.checkpoint().tensor(name);
    report_.source_bytes += tensor.data.size();
    source_records_.push_back({name, tensor.dtype, tensor.shape, std::move(hash), fate, {}});
  }

  void write_parts(TargetPlan& target, std::size_t index, std::vector<Part> parts, WriteQueue& queue) {
    const LayerPlan& layer = target.layers[index];
    for (Part& part : parts) {
      const std::string name = layer.record.tensor_name(part.suffix);
      if (const auto kept = layer.restored.find(part.suffix); kept != layer.restored.end())
        part.tensor.data = kept->second.data;
      const std::uint64_t bytes = part.tensor.data.size();
      auto tensor = std::make_shared<Tensor>(std::move(part.tensor));
      queue.push(bytes, [&target, name, tensor] { target.writer->write(name, tensor->view()); });
    }
    for (const auto& [suffix, tensor] : layer.restored)
      if (std::ranges::find(layer.parts, suffix, &PartSpec::suffix) == layer.parts.end())
        target.writer->write(layer.module->tensor_name(suffix), tensor.view());
    for (const std::string& suffix : layer.companions) {
      const std::string name = layer.module->tensor_name(suffix);
      target.writer->write(name, source_.checkpoint().tensor(name));
    }
    if (&target == &targets_.front())
      for (const std::string& suffix : layer.module->companions) {
        const std::string name = layer.module->tensor_name(suffix);
        record_source(name, sha256(source_.checkpoint().tensor(name).data),
                      std::ranges::find(layer.companions, suffix) != layer.companions.end()
                          ? Fate::copied
                          : Fate::converted);
      }
  }

  void copy_plain(const std::string& name, WriteQueue& queue) {
    queue.push(0, [this, name] {
      const TensorView tensor = source_.checkpoint().tensor(name);
      for (TargetPlan& target : targets_) target.writer->write(name, tensor);
      source_.checkpoint().release(name);
    });
  }

  // ---- the end

  SideFiles side_files(const TargetPlan& target) const {
    SideFiles side;
    side.left_out = {std::begin(kSideConfigNames), std::end(kSideConfigNames)};
    if (target.restores) {
      side.quantization_config = source_.origin().quantization_config;
      side.written = source_.origin().files;
    } else if (!is_float(target)) {
      side.quantization_config = family_rows(target.name).front()->quantization_config(schemes(target));
    }
    return side;
  }

  CheckpointSchemes schemes(const TargetPlan& target) const {
    std::vector<std::pair<Scheme, std::int64_t>> counts;
    for (const LayerPlan& layer : target.layers) {
      const auto it = std::ranges::find(counts, layer.record.scheme, &std::pair<Scheme, std::int64_t>::first);
      if (it == counts.end())
        counts.emplace_back(layer.record.scheme, 1);
      else
        ++it->second;
    }
    CheckpointSchemes schemes;
    schemes.common = std::ranges::max_element(counts, {}, &std::pair<Scheme, std::int64_t>::second)->first;
    for (const LayerPlan& layer : target.layers)
      if (layer.record.scheme != schemes.common)
        schemes.exceptions.emplace(layer.record.module, layer.record.scheme);
    for (const std::string& module : source_.float_linears()) schemes.unquantized.insert(module);
    return schemes;
  }

  void finish(TargetPlan& target) {
    ConvertReport::Artifact artifact{target.name,
                                     target.writer->directory(),
                                     target.writer->tensor_bytes(),
                                     target.writer->num_shards(),
                                     {},
                                     target.dropped};
    Manifest manifest;
    manifest.version = kVersion;
    manifest.format = target.name;
    manifest.recipe = {{"command", "convert"}, {"to", target.name}};
    manifest.origin = source_.origin();
    manifest.source = source_records_;
    for (SourceTensor& tensor : manifest.source)
      if (tensor.fate == Fate::copied && tensor.sha256.empty())
        tensor.sha256 = target.writer->sha256(tensor.name);
    std::ranges::sort(manifest.source, {}, &SourceTensor::name);
    for (const LayerPlan& layer : target.layers) {
      if (layer.way) manifest.layers.push_back(layer.record);
      const Geometry& before = layer.module->stored.geometry;
      artifact.layers.push_back({layer.module->name, layer.module->stored.format->name,
                                 layer.way ? layer.way->format->name : kFloatTarget, before,
                                 layer.way ? layer.way->to : before, layer.record.exactness,
                                 layer.way ? layer.way->notes : std::vector<std::string>{}});
    }
    target.writer->finish(source_.checkpoint(), side_files(target), std::move(manifest));
    report_.artifacts.push_back(std::move(artifact));
  }

  const ConvertJob& job_;
  const Progress& progress_;
  PackedCheckpoint source_;
  std::vector<std::string> plain_;
  std::map<std::string, MatrixFacts> facts_;
  std::vector<std::string> refusals_;
  std::vector<TargetPlan> targets_;
  std::vector<SourceTensor> source_records_;
  ConvertReport report_;
};

}  // namespace

ConvertReport run_convert(const ConvertJob& job, const ConvertProof& prove, const Progress& progress) {
  return Conversion{job, progress}(prove);
}

std::uint64_t largest_tensor(const Checkpoint& checkpoint) {
  std::uint64_t largest = 0;
  for (const std::string& name : checkpoint.names())
    largest = std::max<std::uint64_t>(largest, checkpoint.tensor(name).data.size());
  return largest;
}

/// Rows of Marlin and of the source's own kind have a place for the scales of activations.
bool keeps_companion(std::string_view target, bool restores, std::string_view suffix) {
  return suffix == "bias" || restores || target.starts_with("marlin") || target == "compressed-tensors";
}

MatrixFacts facts_of(const PackedModule& module, const Checkpoint& checkpoint) {
  MatrixFacts facts;
  for (std::int64_t expert = 0; expert < module.num_matrices(); ++expert) {
    const PartViews parts = module.parts(checkpoint, expert);
    for (const ColumnRange& slab : slabs_of(module.stored.geometry))
      facts.add(read_columns(module.stored, parts, slab));
  }
  return facts;
}

}  // namespace mpk
