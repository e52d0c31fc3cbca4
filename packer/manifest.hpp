#pragma once
// marlin_pack.json: what an artifact claims about itself, so that every byte of it can be checked later.
// FORMAT.md, "Manifest", states the file; this is its only reader and writer.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

inline constexpr const char* kManifestName = "marlin_pack.json";

/// A quantized linear layer.
struct ManifestLayer {
  std::string module;  ///< "model.layers.0.mlp.down_proj"
  Scheme scheme;
  K k;
  N n;
  std::string layout;        ///< row of weight_formats()
  std::string codes_sha256;  ///< of the quantizer's codes, one byte each, outputs outermost: (N, K) row-major
  double weight_error = 0;   ///< |W - W_hat|_F / |W|_F against the source
  std::optional<double>
      relative_loss;           ///< output energy lost on the calibration tokens; absent without calibration
  std::optional<double> damp;  ///< used in the end
};

/// A tensor of the artifact.
struct ManifestTensor {
  std::string name, file;
  DType dtype = DType::F32;
  Shape shape;
  std::string sha256;
};

/// What became of a tensor of the source.
enum class Fate { quantized, copied, tied, dropped };
struct SourceTensor {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
  std::string sha256;
  Fate fate = Fate::copied;
  std::string reason;  ///< for tied and dropped
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
};

/// What ManifestLayer::codes_sha256 holds.
std::string sha256_of_codes(const Codes& codes);

/// The file's exact bytes. Contains a SHA-256 of itself.
std::string serialize(const Manifest& manifest);

/// Accepts exactly what serialize() writes. Throws Error{mismatch} if the text is not what was hashed,
/// Error{bad_input} if it is no manifest at all.
Manifest parse_manifest(const std::string& text);

/// Reads directory/marlin_pack.json. Throws Error{bad_input} if there is none.
Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace mpk
