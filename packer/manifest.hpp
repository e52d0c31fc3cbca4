#pragma once
// marlin_pack.json: what an artifact claims about itself, so that every byte of it can be checked later.
// FORMAT.md, "Manifest", states the file; this is its only reader and writer.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

inline constexpr const char* kManifestName = "marlin_pack.json";

/// What a converted layer was before, so that it can become that again, byte for byte.
struct LayerOrigin {
  std::string layout;  ///< row of weight_formats() that stored it
  Scheme scheme;
  K k;
  N n;
  std::vector<PartSpec> parts;  ///< its tensors as they were spelled, of one expert if there are several
  /// Small tensors whose values the artifact may hold in another form only, and those that it has no place
  /// for.
  std::map<std::string, Tensor> kept = {};
};

/// Which rows and columns of the source's layers a layer is, where it is not the whole of one.
struct LayerPart {
  struct Columns {
    std::string module;
    std::int64_t first = 0, count = 0;
  };
  std::string split;             ///< "column", "row" or "whole": how its kind of layer is divided among ranks
  std::int64_t copies = 1;       ///< ranks that hold the same
  std::vector<Columns> of = {};  ///< side by side along N; after the columns were folded, where they were
  std::int64_t first_row = 0, rows = 0;  ///< likewise
};

/// The rows of a layer sorted by group, and the columns of the layers that produce its input put into the
/// same order.
struct LayerFold {
  std::string order_of;  ///< the source's layer whose rows were sorted; the layer itself, or another
  /// Group of each row before it was sorted, in that layer's own entry: (K) of the source. The order is that
  /// of the groups, and inside a group the rows' own. Empty in other entries, and where it need not be
  /// undone.
  std::vector<std::int32_t> g_idx = {};
};

/// One of several artifacts that share the layers of a model.
struct RankOfModel {
  std::int64_t ranks = 1, rank = 0;
  /// Has the biases of layers whose rows are divided; those of the other ranks are zero.
  std::int64_t bias_rank = 0;
};

/// Calibration tokens of a routed expert: those that the router sent to it, and those it was calibrated on.
/// The latter are more, all of them, where too few were sent.
struct ExpertTokens {
  std::int64_t routed = 0, used = 0;
};

/// A layer of codes and scales.
struct ManifestLayer {
  std::string module;  ///< "model.layers.0.mlp.down_proj"
  Scheme scheme;
  K k;  ///< as stored: a padded layer is larger than the model's
  N n;
  std::string layout;  ///< row of weight_formats()
  /// Of the quantizer's codes, one byte each, outputs outermost: (N, K) row-major. Empty for a converted
  /// layer, which is compared with its source instead.
  std::string codes_sha256;
  std::optional<double> weight_error = {};  ///< |W - W_hat|_F / |W|_F against the float source
  std::optional<double> relative_loss =
      {};  ///< output energy lost on the calibration tokens; absent without calibration
  std::optional<double> damp = {};  ///< used in the end
  std::optional<ExpertTokens> expert_tokens = {};
  /// Scales that were folded into the neighbouring layers: what was quantized is diag(input_scales) W
  /// diag(1 / output_scales). Empty: all 1.
  std::vector<float> input_scales = {}, output_scales = {};
  std::string separator = ".";  ///< between the module's name and a suffix
  std::int64_t experts = 0;     ///< each tensor begins with this dimension; 0: it does not
  std::string exactness = {};   ///< of a conversion: "exact", or what was lost
  std::optional<LayerOrigin> origin = {};
  std::optional<LayerPart> part = {};
  std::optional<LayerFold> fold = {};

  std::string tensor_name(const std::string& suffix) const { return module + separator + suffix; }
};

/// How the source of a conversion described itself.
struct CheckpointOrigin {
  std::string family;                          ///< of its formats
  nlohmann::ordered_json quantization_config;  ///< as config.json had it; null if it had none
  std::map<std::string, std::string> files;    ///< name -> content of configuration files beside config.json
};

/// A tensor of the artifact.
struct ManifestTensor {
  std::string name, file;
  DType dtype = DType::F32;
  Shape shape;
  std::string sha256;
};

/// What became of a tensor of the source.
enum class Fate { quantized, copied, tied, dropped, converted, rescaled };
struct SourceTensor {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
  std::string sha256;
  Fate fate = Fate::copied;
  std::string reason;  ///< for tied and dropped, and what else is to be said
};

/// A file of the artifact. Of a .safetensors file only the header is hashed here, its tensors are under
/// `tensors`.
struct ManifestFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::string sha256;
  bool header_only = false;
};

struct Manifest {
  std::string version;            ///< of marlin-pack
  std::string format;             ///< row of weight_formats()
  nlohmann::ordered_json recipe;  ///< resolved options, without paths of the machine it ran on
  /// The first calibration window, so that output errors can be measured again without the text; empty
  /// without data.
  std::vector<std::int32_t> sample_tokens;
  std::vector<ManifestLayer> layers;
  std::vector<ManifestTensor> tensors;
  std::vector<SourceTensor> source;
  std::vector<ManifestFile> files;
  std::optional<CheckpointOrigin> origin = {};
  std::optional<RankOfModel> tensor_parallel = {};
};

/// What ManifestLayer::codes_sha256 holds.
std::string sha256_of_codes(const Codes& codes);

/// A layer's entry in the file. Throws Error{bad_input} for what serialize() would not have written.
nlohmann::ordered_json layer_json(const ManifestLayer& layer);
ManifestLayer layer_from_json(const nlohmann::ordered_json& json);

/// The file's exact bytes. Contains a SHA-256 of itself.
std::string serialize(const Manifest& manifest);

/// Accepts exactly what serialize() writes. Throws Error{mismatch} if the text is not what was hashed,
/// Error{bad_input} if it is no manifest at all.
Manifest parse_manifest(const std::string& text);

/// Reads directory/marlin_pack.json. Throws Error{bad_input} if there is none.
Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace mpk
