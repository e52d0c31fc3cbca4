#include "cli/pipeline/convert.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <omp.h>
#include <set>

#include <fmt/format.h>

#include "cli/pipeline/artifact_writer.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/rank_tensors.hpp"
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
  const LayerUnit* unit = nullptr;
  LayerView view;
  std::optional<Route> way;  ///< nullopt: to floats
  DType float_dtype = DType::F32;
  std::vector<PartSpec> parts;             ///< of one matrix
  std::vector<std::string> companions;     ///< suffixes copied from the source
  std::map<std::string, Tensor> restored;  ///< suffix -> what the manifest kept, instead of what is computed
  ManifestLayer record;
};

struct TargetPlan {
  std::string name;
  std::int64_t rank = 0;
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

/// Threads that may hold a slab at the same time: its codes, and those that the check unpacks again.
std::int64_t workers_for(const Geometry& geometry, const ColumnRange& slab) {
  const std::int64_t bytes = 2 * geometry.k.value * slab.count;
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(kSlabMemoryBytes) / bytes, 1,
                                  omp_get_max_threads());
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
    if (job.arrange.ranks < 1)
      throw Error{ErrorKind::usage, fmt::format("--tp {}: at least 1", job.arrange.ranks)};
    Arrangement arrangement = arrange(source_, job.arrange);
    units_ = std::move(arrangement.units);
    report_.notes = source_.notes();
    report_.notes.insert(report_.notes.end(), arrangement.notes.begin(), arrangement.notes.end());
    collect_plain_tensors();
    for (const std::string& target : job.targets)
      for (std::int64_t rank = 0; rank < job.arrange.ranks; ++rank) plan_target(target, rank);
    refuse_together();
  }

  ConvertReport operator()(const ConvertProof& prove) {
    const auto begin = std::chrono::steady_clock::now();
    StagingDirectory staging{job_.destination};
    for (TargetPlan& target : targets_) {
      const fs::path directory = directory_of(target, staging.path());
      fs::create_directories(directory);
      target.writer = std::make_unique<ArtifactWriter>(directory, target.specs, job_.max_shard_bytes);
    }
    {
      read_ahead(0);
      WriteQueue queue{2, std::min(job_.memory_bytes, budget())};
      std::int64_t done = 0;
      const auto total = static_cast<std::int64_t>(units_.size());
      for (std::size_t i = 0; i < units_.size(); ++i) {
        const std::string& name = units_[i].views.front().module;
        within("module " + name, [&] { convert_unit(i, queue); });
        if (progress_) progress_("convert", ++done, total, name);
      }
      for (const std::string& name : plain_) copy_plain(name, queue);
      queue.drain();
    }
    for (TargetPlan& target : targets_) finish(target);
    report_.copied = std::ssize(plain_);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (prove) prove(report_);
    staging.publish();
    for (std::size_t i = 0; i < targets_.size(); ++i)
      report_.artifacts[i].directory = directory_of(targets_[i], job_.destination);
    return std::move(report_);
  }

 private:
  fs::path directory_of(const TargetPlan& target, const fs::path& root) const {
    const std::int64_t ranks = job_.arrange.ranks;
    const fs::path directory =
        std::ssize(targets_) == ranks ? root : root / target.name;  // one target, or several
    return ranks == 1 ? directory : directory / rank_directory(target.rank, ranks);
  }

  RankTensor rank_tensor(const std::string& name, std::int64_t rank) const {
    return mpk::rank_tensor(source_.checkpoint(), name, heads_, job_.arrange.ranks, rank);
  }

  void collect_plain_tensors() {
    std::set<std::string> taken;
    for (const PackedModule& module : source_.modules()) {
      for (const std::string& suffix : module.suffixes) taken.insert(module.tensor_name(suffix));
      for (const std::string& suffix : module.companions) taken.insert(module.tensor_name(suffix));
    }
    for (const std::string& name : source_.checkpoint().names())
      if (!taken.contains(name)) {
        plain_.push_back(name);
        try {
          const bool is_whole = rank_tensor(name, 0).is_whole;
          // Its hash is the copy's, or is taken when it is cut.
          record_source(name, {}, is_whole ? Fate::copied : Fate::converted);
        } catch (const Error& error) {
          refusals_.emplace_back(error.what());
        }
      }
  }

  // ---- planning

  /// Of the modules together; a part of a layer has no numbers that the layer has not.
  const MatrixFacts& facts_of(const LayerUnit& unit) {
    const auto [it, is_new] = facts_.try_emplace(&unit);
    if (is_new)
      for (const PackedModule* module : unit.modules)
        it->second.add(mpk::facts_of(*module, source_.checkpoint()));
    return it->second;
  }

  void refuse_origin() const {
    if (job_.arrange.rearranges())
      throw Error{ErrorKind::usage, "--tp, --fuse and --fold-act-order do not go with --to origin"};
    if (source_.is_rearranged())
      throw Error{
          ErrorKind::unsupported,
          fmt::format("{}: its layers are parts of its source's, or several of them in one, and do not "
                      "become that source again; another --to converts them as they are",
                      job_.source.string())};
  }

  void plan_target(const std::string& asked, std::int64_t rank) {
    if (asked == kOriginTarget) refuse_origin();
    TargetPlan target;
    target.name = asked == kOriginTarget ? source_.origin().family : asked;
    target.rank = rank;
    target.restores = target.name == source_.origin().family && !job_.arrange.rearranges();
    const auto rows = family_rows(target.name);
    if (!is_float(target) && rows.empty())
      throw Error{ErrorKind::usage, fmt::format("--to {}: there is no such format to write", target.name)};
    for (const LayerUnit& unit : units_) {
      const LayerView& view = unit.views[static_cast<std::size_t>(rank)];
      if (!view.why_not.empty()) {
        if (rank == 0) refuse(view, target.name, view.why_not);
        target.layers.push_back(begin(unit, view));
        continue;
      }
      target.layers.push_back(is_float(target)  ? plan_float(unit, view)
                              : target.restores ? plan_restored(unit)
                                                : plan_recoded(unit, view, rows, target.name));
    }
    if (!refusals_.empty()) return;
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
      for (const std::string& suffix : layer.companions)
        target.specs.push_back(companion_spec(layer.view, source_.checkpoint(), suffix));
      for (const auto& [suffix, tensor] : layer.restored)
        if (std::ranges::find(layer.parts, suffix, &PartSpec::suffix) == layer.parts.end())
          target.specs.push_back(
              {layer.unit->modules.front()->tensor_name(suffix), tensor.dtype, tensor.shape});
    }
    for (const std::string& name : plain_)
      target.specs.push_back({name, source_.checkpoint().tensor(name).dtype, rank_tensor(name, rank).shape});
    std::ranges::sort(target.specs, {}, &TensorSpec::name);
    targets_.push_back(std::move(target));
  }

  void refuse(const LayerView& view, const std::string& target, const std::string& why) {
    std::string text = fmt::format("{} to {}: {}", view.module, target, why);
    const Geometry& stored = view.columns->pieces.front().module->stored.geometry;
    const std::string_view kind = last_component(view.module);
    if (stored.scheme.act_order && (kind == "down_proj" || kind == "w2") && !job_.arrange.fold_act_order)
      text += "; --fold-act-order sorts them";
    refusals_.push_back(std::move(text));
  }

  LayerPlan begin(const LayerUnit& unit, const LayerView& view) const {
    LayerPlan layer;
    layer.unit = &unit;
    layer.view = view;
    layer.record.module = view.module;
    layer.record.separator = view.separator;
    layer.record.experts = view.experts;
    layer.record.part = view.part;
    layer.record.fold = view.fold;
    if (!view.part) layer.record.origin = source_.origin_of(*unit.modules.front());
    return layer;
  }

  LayerPlan plan_float(const LayerUnit& unit, const LayerView& view) const {
    LayerPlan layer = begin(unit, view);
    const auto& [scheme, k, n] = view.geometry;
    layer.float_dtype = job_.float_dtype.value_or(float_dtype_of(scheme, source_.model_dtype()));
    // A stack of experts is (experts, K, N) in float checkpoints, and its name has no suffix.
    layer.parts = {{"weight", layer.float_dtype, {n.value, k.value}}};
    if (view.experts != 0) {
      layer.parts = {{"", layer.float_dtype, {k.value, n.value}}};
      layer.record.separator = "";
    }
    layer.record.exactness = "exact";
    return layer;
  }

  LayerPlan plan_recoded(const LayerUnit& unit, const LayerView& view,
                         const std::vector<const WeightFormat*>& rows, const std::string& target) {
    LayerPlan layer = begin(unit, view);
    const Geometry& from = view.geometry;
    const bool look = job_.recode.scale_dtype.has_value() ||
                      needs_facts(unit.modules.front()->stored.format->lowest_zero, from.scheme, rows);
    auto way = within("module " + view.module, [&] {
      RecodeOptions options = job_.recode;
      options.preferred_scale_dtype = source_.model_dtype() == DType::F16 ? DType::F16 : DType::BF16;
      return find_route(from, look ? facts_of(unit) : MatrixFacts{}, rows, options);
    });
    const auto* why = std::get_if<std::string>(&way);
    const auto* route = std::get_if<Route>(&way);
    // An engine could not tell the padding of a rank's columns from the next rank's columns.
    const bool is_padded = route && (route->to.k != from.k || route->to.n != from.n);
    const bool refused = why || (is_padded && job_.arrange.ranks > 1);
    if (refused) {
      if (&view == &unit.views.front())
        refuse(view, target,
               why ? *why
                   : padding_text(from.k, from.n, route->to.k, route->to.n) +
                         ", and parts of layers are not padded");
      return layer;
    }
    layer.way = std::get<Route>(std::move(way));
    layer.parts = layer.way->format->specs(layer.way->to.scheme, layer.way->to.k, layer.way->to.n);
    return layer;
  }

  /// The tensors as they once were, spelling included.
  LayerPlan plan_restored(const LayerUnit& unit) const {
    const PackedModule& module = *unit.modules.front();
    LayerPlan layer =
        begin(unit, source_.fold_of(module.name) ? view_as_origin(module, source_) : unit.views.front());
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
    for (const std::string& suffix : layer.unit->modules.front()->companions) {
      const std::string name = layer.view.module + layer.view.separator + suffix;
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

  /// Finished tensors may wait up to this size, the next one's own included: with the source's bytes in
  /// memory as well, about twice the largest tensor and a fixed sum.
  std::uint64_t budget() const {
    // What a thread has had in hand stays with it, so threads that take turns at slabs count, too.
    constexpr std::uint64_t kSlabOfAThread = std::uint64_t{8} << 20;  // at most, up to K = 32768
    const std::uint64_t slabs =
        std::min(kWaitingMemoryBytes, kSlabOfAThread * static_cast<std::uint64_t>(omp_get_max_threads()));
    return largest_tensor(source_.checkpoint()) + kWaitingMemoryBytes - slabs;
  }

  void convert_unit(std::size_t index, WriteQueue& queue) {
    const LayerUnit& unit = units_[index];
    const std::int64_t experts = unit.modules.front()->experts;
    const auto ahead = std::async(std::launch::async, [&] { read_ahead(index + 1); });
    std::vector<std::vector<Part>> made;
    std::uint64_t bytes = 0;
    for (const TargetPlan& target : targets_) {
      std::vector<PartSpec> stacked = target.layers[index].parts;
      if (experts != 0)
        for (PartSpec& part : stacked) part.shape.insert(part.shape.begin(), experts);
      for (const PartSpec& part : stacked) bytes += num_bytes(part);
      queue.wait_for_room(bytes);
      made.push_back(allocate(stacked));
    }
    for (std::int64_t expert = 0; expert < unit.modules.front()->num_matrices(); ++expert)
      convert_matrix(index, expert, made);
    for (std::size_t t = 0; t < targets_.size(); ++t)
      write_parts(targets_[t], index, std::move(made[t]), queue);
    hash_source(unit);  // beside the result's hash: each is one thread's work from the first byte to the last
  }

  /// The targets by the columns that they are made of, which are unpacked once for all that share them.
  std::vector<std::vector<std::size_t>> targets_by_columns(std::size_t index) const {
    std::vector<std::vector<std::size_t>> result;
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      const auto it = std::ranges::find_if(result, [&](const std::vector<std::size_t>& group) {
        return targets_[group.front()].layers[index].view.columns == targets_[t].layers[index].view.columns;
      });
      if (it == result.end())
        result.push_back({t});
      else
        it->push_back(t);
    }
    return result;
  }

  void convert_matrix(std::size_t index, std::int64_t expert, std::vector<std::vector<Part>>& made) const {
    std::vector<PartBuffers> buffers;
    for (std::vector<Part>& target : made)
      buffers.push_back(matrix_buffers(target, units_[index].modules.front()->experts, expert));
    ColumnReader read{source_.checkpoint(), expert};
    for (const std::vector<std::size_t>& sharing : targets_by_columns(index)) {
      const ColumnView& view = *targets_[sharing.front()].layers[index].view.columns;
      read.prepare(view);
      const std::vector<ColumnRange> slabs = slabs_of(view.geometry);
      const auto convert = [&](const ColumnRange& slab) {
        const QuantizedMatrix columns = read(view, slab);
        for (const std::size_t t : sharing)
          within("target " + targets_[t].name,
                 [&] { convert_slab(targets_[t].layers[index], columns, buffers[t]); });
      };
      convert(slabs.front());  // alone: it also writes what all columns share
      const std::int64_t workers = workers_for(view.geometry, slabs.front());
      parallel_for(workers, [&](std::int64_t worker) {
        for (std::int64_t i = 1 + worker; i < std::ssize(slabs); i += workers)
          convert(slabs[static_cast<std::size_t>(i)]);
      });
    }
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

  void convert_slab(const LayerPlan& layer, const QuantizedMatrix& all_rows, const PartBuffers& out) const {
    const Geometry& from = layer.view.geometry;
    const bool cuts = !layer.view.has_all_rows();
    const QuantizedMatrix some_rows = cuts ? rows_of(layer.view, all_rows) : QuantizedMatrix{};
    const QuantizedMatrix& columns = cuts ? some_rows : all_rows;
    if (!layer.way) {
      write_floats(columns, layer, out.begin()->second);
      return;
    }
    const Geometry& to = layer.way->to;
    // Rounded float zero points do not show in the scheme.
    const bool changes = to != from || !layer.way->exact();
    const QuantizedMatrix recoded = changes ? recode(columns, from, to) : QuantizedMatrix{};
    const QuantizedMatrix& matrix = changes ? recoded : columns;
    layer.way->format->write(matrix, to, out);
    if (job_.check) check_slab(layer, matrix, out);
  }

  static void write_floats(const QuantizedMatrix& columns, const LayerPlan& layer, const PartBuffer& out) {
    const N n = layer.view.geometry.n;
    if (layer.view.experts == 0) {
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
    if (index >= units_.size()) return;
    for (const std::string& name : tensors_of(units_[index])) source_.checkpoint().read_ahead(name);
  }

  static std::vector<std::string> tensors_of(const LayerUnit& unit) {
    std::vector<std::string> names;
    for (const PackedModule* module : unit.modules)
      for (const std::string& suffix : module->suffixes) names.push_back(module->tensor_name(suffix));
    return names;
  }

  void hash_source(const LayerUnit& unit) {
    const std::vector<std::string> names = tensors_of(unit);
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
        target.writer->write(layer.unit->modules.front()->tensor_name(suffix), tensor.view());
    for (const std::string& suffix : layer.companions)
      target.writer->write(layer.view.module + layer.view.separator + suffix,
                           companion_of(layer.view, source_.checkpoint(), suffix).view());
    if (&target == &targets_.front()) record_companions(layer);
  }

  void record_companions(const LayerPlan& layer) {
    for (const PackedModule* module : layer.unit->modules)
      for (const std::string& suffix : module->companions) {
        const std::string name = module->tensor_name(suffix);
        const bool is_copied =
            is_whole(layer.view) && std::ranges::find(layer.companions, suffix) != layer.companions.end();
        record_source(name, sha256(source_.checkpoint().tensor(name).data),
                      is_copied ? Fate::copied : Fate::converted);
      }
  }

  void copy_plain(const std::string& name, WriteQueue& queue) {
    if (!rank_tensor(name, 0).is_whole)
      std::ranges::find(source_records_, name, &SourceTensor::name)->sha256 =
          sha256(source_.checkpoint().tensor(name).data);
    queue.push(0, [this, name] {
      const TensorView tensor = source_.checkpoint().tensor(name);
      for (TargetPlan& target : targets_) {
        const RankTensor part = rank_tensor(name, target.rank);
        if (part.is_whole)
          target.writer->write(name, tensor);
        else
          target.writer->write(name, cut(tensor, part).view());
      }
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
                                     target.dropped,
                                     job_.arrange.ranks,
                                     target.rank};
    Manifest manifest;
    manifest.version = kVersion;
    manifest.format = target.name;
    manifest.recipe = {{"command", "convert"}, {"to", target.name}};
    if (job_.arrange.ranks > 1) manifest.recipe["tp"] = job_.arrange.ranks;
    if (job_.arrange.fuse) manifest.recipe["fuse"] = true;
    if (job_.arrange.fold_act_order) manifest.recipe["fold_act_order"] = true;
    manifest.tensor_parallel = source_.rank_of_model();
    if (job_.arrange.ranks > 1)
      manifest.tensor_parallel = RankOfModel{job_.arrange.ranks, target.rank, kBiasRank};
    manifest.origin = source_.origin();
    manifest.source = source_records_;
    for (SourceTensor& tensor : manifest.source)
      if (tensor.fate == Fate::copied && tensor.sha256.empty())
        tensor.sha256 = target.writer->sha256(tensor.name);
    std::ranges::sort(manifest.source, {}, &SourceTensor::name);
    for (const LayerPlan& layer : target.layers) {
      if (layer.way) manifest.layers.push_back(layer.record);
      const Geometry& before = layer.view.geometry;
      std::vector<std::string> notes = layer.view.notes;
      if (layer.way) notes.insert(notes.end(), layer.way->notes.begin(), layer.way->notes.end());
      artifact.layers.push_back({layer.view.module, layer.unit->modules.front()->stored.format->name,
                                 layer.way ? layer.way->format->name : kFloatTarget, before,
                                 layer.way ? layer.way->to : before, layer.record.exactness,
                                 std::move(notes)});
    }
    target.writer->finish(source_.checkpoint(), side_files(target), std::move(manifest));
    report_.artifacts.push_back(std::move(artifact));
  }

  const ConvertJob& job_;
  const Progress& progress_;
  PackedCheckpoint source_;
  Heads heads_ = heads_of(source_.checkpoint().config());
  std::vector<LayerUnit> units_;
  std::vector<std::string> plain_;
  std::map<const LayerUnit*, MatrixFacts> facts_;
  std::vector<std::string> refusals_;
  std::vector<TargetPlan> targets_;
  std::vector<SourceTensor> source_records_;
  ConvertReport report_;
};

}  // namespace

std::string rank_directory(std::int64_t rank, std::int64_t ranks) {
  return fmt::format("rank-{}-of-{}", rank, ranks);
}

std::string ConvertReport::Artifact::name() const {
  return ranks == 1 ? target : target + "/" + rank_directory(rank, ranks);
}

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
