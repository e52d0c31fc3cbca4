#include "packer/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <tuple>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kManifestVersion = 2;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 30;
constexpr const char* kSelfHash = "manifest_sha256";
constexpr const char* kFateNames[] = {"quantized", "copied",    "tied",
                                      "dropped",   "converted", "rescaled"};  // indexed by Fate

Error malformed(const std::string& what) {
  return {ErrorKind::bad_input, fmt::format("{}: {}", kManifestName, what)};
}

/// The JSON library would convert 1e30, which no integer holds.
std::int64_t whole(const Json& j) {
  if (!j.is_number_integer()) throw malformed(fmt::format("{} is no whole number", j.dump()));
  return j.get<std::int64_t>();
}

template <class T>
std::vector<T> whole_numbers(const Json& array) {
  if (!array.is_array()) throw malformed("there is no list of whole numbers where one should be");
  std::vector<T> numbers;
  for (const Json& element : array) numbers.push_back(static_cast<T>(whole(element)));
  return numbers;
}

DType dtype_of(const Json& j) {
  const std::string name = j.get<std::string>();
  const auto dtype = dtype_named(name);
  if (!dtype) throw malformed(fmt::format("unknown dtype \"{}\"", name));
  return *dtype;
}

constexpr const char* kZeroNames[] = {"implied", "integer", "floating"};   // indexed by ZeroPoints
constexpr const char* kGlobalNames[] = {"none", "multiplies", "divides"};  // indexed by GlobalScale

template <class Enum, std::size_t kCount>
Enum named(const std::string& name, const char* const (&names)[kCount], const char* key) {
  for (std::size_t i = 0; i < kCount; ++i)
    if (name == names[i]) return static_cast<Enum>(i);
  throw malformed(fmt::format("{}: unknown value \"{}\"", key, name));
}

/// What is usual is not mentioned.
void add_scheme(Json& j, const Scheme& scheme) {
  j["type"] = name_of(scheme.type);
  j["group_size"] = group_size_number(scheme);
  j["scale_dtype"] = info(scheme.scale_dtype).name;
  if (scheme.zero_points != ZeroPoints::implied)
    j["zero_points"] = kZeroNames[static_cast<int>(scheme.zero_points)];
  if (scheme.act_order) j["act_order"] = true;
  if (scheme.global_scale != GlobalScale::none)
    j["global_scale"] = kGlobalNames[static_cast<int>(scheme.global_scale)];
  if (scheme.columns_per_scale != 1) j["columns_per_scale"] = scheme.columns_per_scale;
  if (scheme.scales_divide) j["scales_divide"] = true;
  if (scheme.activations) j["activations"] = info(*scheme.activations).name;
}

Scheme scheme_from(const Json& j) {
  Scheme scheme;
  const auto type = scalar_type_named(j.at("type").get<std::string>());
  if (!type) throw malformed(fmt::format("unknown type {}", j.at("type").dump()));
  scheme.type = *type;
  scheme.group_size = group_size_from_number(whole(j.at("group_size")));
  scheme.scale_dtype = dtype_of(j.at("scale_dtype"));
  if (j.contains("zero_points"))
    scheme.zero_points = named<ZeroPoints>(j["zero_points"].get<std::string>(), kZeroNames, "zero_points");
  scheme.act_order = j.value("act_order", false);
  if (j.contains("global_scale"))
    scheme.global_scale =
        named<GlobalScale>(j["global_scale"].get<std::string>(), kGlobalNames, "global_scale");
  scheme.columns_per_scale = (j.contains("columns_per_scale") ? whole(j["columns_per_scale"]) : 1);
  scheme.scales_divide = j.value("scales_divide", false);
  if (j.contains("activations")) scheme.activations = dtype_of(j["activations"]);
  return scheme;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

std::vector<std::byte> from_hex(const std::string& text) {
  const auto digit = [](char c) -> int {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    if (digit(text[i]) < 0 || digit(text[i + 1]) < 0) throw malformed("data are no hexadecimal digits");
    bytes.push_back(static_cast<std::byte>(digit(text[i]) * 16 + digit(text[i + 1])));
  }
  return bytes;
}

std::vector<float> floats_from(const Json& j) {
  const std::vector<std::byte> bytes = from_hex(j.get<std::string>());
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

Json to_json(const LayerOrigin& origin) {
  Json j{{"layout", origin.layout}};
  add_scheme(j, origin.scheme);
  j["k"] = origin.k.value;
  j["n"] = origin.n.value;
  for (const PartSpec& part : origin.parts)
    j["parts"][part.suffix] = {{"dtype", info(part.dtype).name}, {"shape", part.shape}};
  for (const auto& [suffix, tensor] : origin.kept)
    j["kept"][suffix] = {
        {"dtype", info(tensor.dtype).name}, {"shape", tensor.shape}, {"data", to_hex(tensor.data)}};
  return j;
}

LayerOrigin origin_from(const Json& j) {
  LayerOrigin origin{
      j.at("layout").get<std::string>(), scheme_from(j), K{whole(j.at("k"))}, N{whole(j.at("n"))}, {}};
  for (const auto& [suffix, part] : j.at("parts").items())
    origin.parts.push_back(
        {suffix, dtype_of(part.at("dtype")), whole_numbers<std::int64_t>(part.at("shape"))});
  if (j.contains("kept"))
    for (const auto& [suffix, tensor] : j["kept"].items())
      origin.kept[suffix] = {dtype_of(tensor.at("dtype")), whole_numbers<std::int64_t>(tensor.at("shape")),
                             from_hex(tensor.at("data").get<std::string>())};
  return origin;
}

Json to_json(const LayerPart& part) {
  Json j{{"split", part.split}, {"copies", part.copies}, {"rows", {part.first_row, part.rows}}};
  for (const auto& [module, first, count] : part.of)
    j["of"].push_back({{"module", module}, {"columns", {first, count}}});
  return j;
}

/// Two whole numbers, none of them negative.
std::pair<std::int64_t, std::int64_t> range_from(const Json& j) {
  const auto numbers = whole_numbers<std::int64_t>(j);
  if (numbers.size() != 2 || numbers[0] < 0 || numbers[1] < 1 || numbers[0] >= (std::int64_t{1} << 31) ||
      numbers[1] >= (std::int64_t{1} << 31))
    throw malformed(fmt::format("{} is no range", j.dump()));
  return {numbers[0], numbers[1]};
}

LayerPart part_from(const Json& j) {
  LayerPart part{j.at("split").get<std::string>(), whole(j.at("copies"))};
  std::tie(part.first_row, part.rows) = range_from(j.at("rows"));
  for (const Json& piece : j.at("of")) {
    const auto [first, count] = range_from(piece.at("columns"));
    part.of.push_back({piece.at("module").get<std::string>(), first, count});
  }
  if (part.of.empty()) throw malformed("a part of no layer");
  return part;
}

/// Four bytes per row, lowest first, as the tensor that it was.
Json to_json(const LayerFold& fold) {
  Json j{{"order_of", fold.order_of}};
  if (!fold.g_idx.empty()) j["g_idx"] = to_hex(std::as_bytes(std::span{fold.g_idx}));
  return j;
}

LayerFold fold_from(const Json& j) {
  LayerFold fold{j.at("order_of").get<std::string>()};
  if (!j.contains("g_idx")) return fold;
  const std::vector<std::byte> bytes = from_hex(j["g_idx"].get<std::string>());
  if (bytes.size() % sizeof(std::int32_t) != 0) throw malformed("fold: g_idx is no list of 32-bit numbers");
  fold.g_idx.resize(bytes.size() / sizeof(std::int32_t));
  std::memcpy(fold.g_idx.data(), bytes.data(), bytes.size());
  if (std::ranges::any_of(fold.g_idx, [](std::int32_t group) { return group < 0; }))
    throw malformed("fold: g_idx has a negative group");
  return fold;
}

Json to_json(const ManifestLayer& layer) {
  Json j{{"module", layer.module}};
  add_scheme(j, layer.scheme);
  j["k"] = layer.k.value;
  j["n"] = layer.n.value;
  j["layout"] = layer.layout;
  if (layer.separator != ".") j["separator"] = layer.separator;
  if (layer.experts != 0) j["experts"] = layer.experts;
  if (!layer.codes_sha256.empty()) j["codes_sha256"] = layer.codes_sha256;
  if (layer.weight_error) j["weight_error"] = *layer.weight_error;
  if (layer.relative_loss) j["relative_loss"] = *layer.relative_loss;
  if (layer.damp) j["damp"] = *layer.damp;
  if (layer.expert_tokens)
    j["expert_tokens"] = {{"routed", layer.expert_tokens->routed}, {"used", layer.expert_tokens->used}};
  if (!layer.input_scales.empty()) j["input_scales"] = to_hex(std::as_bytes(std::span{layer.input_scales}));
  if (!layer.output_scales.empty())
    j["output_scales"] = to_hex(std::as_bytes(std::span{layer.output_scales}));
  if (!layer.exactness.empty()) j["exactness"] = layer.exactness;
  if (layer.part) j["part"] = to_json(*layer.part);
  if (layer.fold) j["fold"] = to_json(*layer.fold);
  if (layer.origin) j["origin"] = to_json(*layer.origin);
  return j;
}

ManifestLayer layer_from(const Json& j) {
  ManifestLayer layer;
  layer.module = j.at("module").get<std::string>();
  return within("layer " + layer.module, [&] {
    layer.scheme = scheme_from(j);
    layer.k = K{whole(j.at("k"))};
    layer.n = N{whole(j.at("n"))};
    layer.layout = j.at("layout").get<std::string>();
    layer.separator = j.value("separator", ".");
    layer.experts = (j.contains("experts") ? whole(j["experts"]) : 0);
    layer.codes_sha256 = j.value("codes_sha256", "");
    if (j.contains("weight_error")) layer.weight_error = j["weight_error"].get<double>();
    if (j.contains("relative_loss")) layer.relative_loss = j["relative_loss"].get<double>();
    if (j.contains("damp")) layer.damp = j["damp"].get<double>();
    if (j.contains("expert_tokens"))
      layer.expert_tokens = {whole(j["expert_tokens"].at("routed")), whole(j["expert_tokens"].at("used"))};
    if (j.contains("input_scales")) layer.input_scales = floats_from(j["input_scales"]);
    if (j.contains("output_scales")) layer.output_scales = floats_from(j["output_scales"]);
    layer.exactness = j.value("exactness", "");
    if (j.contains("part")) layer.part = part_from(j["part"]);
    if (j.contains("fold")) layer.fold = fold_from(j["fold"]);
    if (j.contains("origin")) layer.origin = origin_from(j["origin"]);
    return layer;
  });
}

Json to_json(const CheckpointOrigin& origin) {
  Json j{{"family", origin.family}, {"quantization_config", origin.quantization_config}};
  j["files"] = origin.files;
  return j;
}

Json to_json(const ManifestTensor& tensor) {
  return {{"name", tensor.name},
          {"file", tensor.file},
          {"dtype", info(tensor.dtype).name},
          {"shape", tensor.shape},
          {"sha256", tensor.sha256}};
}

ManifestTensor tensor_from(const Json& j) {
  return {j.at("name").get<std::string>(), j.at("file").get<std::string>(), dtype_of(j.at("dtype")),
          whole_numbers<std::int64_t>(j.at("shape")), j.at("sha256").get<std::string>()};
}

Json to_json(const SourceTensor& tensor) {
  Json j{{"name", tensor.name},
         {"dtype", info(tensor.dtype).name},
         {"shape", tensor.shape},
         {"sha256", tensor.sha256},
         {"fate", kFateNames[static_cast<int>(tensor.fate)]}};
  if (!tensor.reason.empty()) j["reason"] = tensor.reason;
  return j;
}

SourceTensor source_from(const Json& j) {
  SourceTensor tensor{j.at("name").get<std::string>(),
                      dtype_of(j.at("dtype")),
                      whole_numbers<std::int64_t>(j.at("shape")),
                      j.at("sha256").get<std::string>(),
                      Fate::copied,
                      j.value("reason", "")};
  const std::string fate = j.at("fate").get<std::string>();
  for (std::size_t i = 0; i < std::size(kFateNames); ++i)
    if (fate == kFateNames[i]) {
      tensor.fate = static_cast<Fate>(i);
      return tensor;
    }
  throw malformed(fmt::format("source tensor {}: unknown fate \"{}\"", tensor.name, fate));
}

Json to_json(const ManifestFile& file) {
  return {{"name", file.name},
          {"bytes", file.bytes},
          {file.header_only ? "header_sha256" : "sha256", file.sha256}};
}

ManifestFile file_from(const Json& j) {
  const bool header_only = j.contains("header_sha256");
  return {j.at("name").get<std::string>(), static_cast<std::uint64_t>(whole(j.at("bytes"))),
          j.at(header_only ? "header_sha256" : "sha256").get<std::string>(), header_only};
}

template <class T>
Json array_of(const std::vector<T>& rows) {
  Json array = Json::array();
  for (const T& row : rows) array.push_back(to_json(row));
  return array;
}

template <class T>
std::vector<T> rows_from(const Json& array, T (*from)(const Json&)) {
  std::vector<T> rows;
  for (const Json& row : array) rows.push_back(from(row));
  return rows;
}

/// What types do not say: others divide by these numbers, loop over them and read as many bytes.
void check_sizes(const std::string& module, const Scheme& scheme, K k, N n) {
  const std::int64_t group_size = group_size_number(scheme);
  if (k.value < 1 || n.value < 1 || group_size < -1 || group_size == 0 || scheme.columns_per_scale < 0)
    throw malformed(fmt::format("layer {}: k {}, n {}, group_size {}, columns_per_scale {} are no sizes",
                                module, k.value, n.value, group_size, scheme.columns_per_scale));
}
void check_sizes(const ManifestLayer& layer) {
  check_sizes(layer.module, layer.scheme, layer.k, layer.n);
  if (layer.experts < 0)
    throw malformed(fmt::format("layer {}: there cannot be {} experts", layer.module, layer.experts));
  const auto no_scales = [](const std::vector<float>& scales, std::int64_t count) {
    return !scales.empty() && (std::ssize(scales) != count || std::ranges::any_of(scales, [](float s) {
                                 return !(std::isfinite(s) && s != 0);
                               }));
  };
  if (no_scales(layer.input_scales, layer.k.value) || no_scales(layer.output_scales, layer.n.value))
    throw malformed(fmt::format(
        "layer {}: {} input and {} output scales for k {}, n {}, or some are 0 or not finite", layer.module,
        layer.input_scales.size(), layer.output_scales.size(), layer.k.value, layer.n.value));
  if (!layer.origin) return;
  check_sizes(layer.module, layer.origin->scheme, layer.origin->k, layer.origin->n);
  for (const PartSpec& part : layer.origin->parts) tensor_bytes(part.dtype, part.shape);  // or it throws
  for (const auto& [suffix, tensor] : layer.origin->kept)
    if (tensor.data.size() != tensor_bytes(tensor.dtype, tensor.shape))
      throw malformed(fmt::format("layer {}: {} {} has {} bytes", layer.module, suffix,
                                  to_string(tensor.shape), tensor.data.size()));
}

std::string text_of(const Json& j) {
  return j.dump(1) + "\n";
}

/// The hash stands inside the text it covers, so it is taken with 64 zeros in its own place.
std::string self_hash(Json j) {
  j[kSelfHash] = std::string(64, '0');
  const std::string text = text_of(j);
  return sha256(std::as_bytes(std::span{text}));
}

}  // namespace

std::string sha256_of_codes(const Codes& codes) {
  return sha256({reinterpret_cast<const std::byte*>(codes.data()), static_cast<std::size_t>(codes.size())});
}

Json layer_json(const ManifestLayer& layer) {
  return to_json(layer);
}

ManifestLayer layer_from_json(const Json& json) {
  try {
    ManifestLayer layer = layer_from(json);
    check_sizes(layer);
    return layer;
  } catch (const nlohmann::json::exception& e) {
    throw malformed(e.what());
  }
}

std::string serialize(const Manifest& manifest) {
  Json j{{"marlin_pack", manifest.version},
         {"manifest_version", kManifestVersion},
         {kSelfHash, ""},
         {"format", manifest.format},
         {"recipe", manifest.recipe},
         {"sample_tokens", manifest.sample_tokens},
         {"layers", array_of(manifest.layers)},
         {"tensors", array_of(manifest.tensors)},
         {"source", array_of(manifest.source)},
         {"files", array_of(manifest.files)}};
  if (manifest.origin) j["origin"] = to_json(*manifest.origin);
  if (const auto& parallel = manifest.tensor_parallel)
    j["tensor_parallel"] = {
        {"ranks", parallel->ranks}, {"rank", parallel->rank}, {"bias_rank", parallel->bias_rank}};
  j[kSelfHash] = self_hash(j);
  return text_of(j);
}

Manifest parse_manifest(const std::string& text) {
  try {
    parse_json(text, {.max_bytes = kMaxBytes});  // refuses depths that the recursion of dump() cannot take
    const Json j = Json::parse(text);
    if (!j.is_object() || !j.contains("marlin_pack") || !j.contains(kSelfHash))
      throw malformed("not a manifest of marlin-pack");
    if (j.at(kSelfHash) != self_hash(j) || text_of(j) != text)
      throw Error{
          ErrorKind::mismatch,
          fmt::format("{}: changed since it was written (its SHA-256 of itself differs)", kManifestName)};
    if (j.at("manifest_version") != kManifestVersion)
      throw Error{ErrorKind::unsupported,
                  fmt::format("{}: manifest_version {} is not {}; use the marlin-pack that wrote it",
                              kManifestName, j.at("manifest_version").dump(), kManifestVersion)};
    Manifest manifest;
    manifest.version = j.at("marlin_pack").get<std::string>();
    manifest.format = j.at("format").get<std::string>();
    manifest.recipe = j.at("recipe");
    manifest.sample_tokens = whole_numbers<std::int32_t>(j.at("sample_tokens"));
    manifest.layers = rows_from(j.at("layers"), layer_from);
    manifest.tensors = rows_from(j.at("tensors"), tensor_from);
    manifest.source = rows_from(j.at("source"), source_from);
    manifest.files = rows_from(j.at("files"), file_from);
    if (j.contains("origin"))
      manifest.origin =
          CheckpointOrigin{j["origin"].at("family").get<std::string>(), j["origin"].at("quantization_config"),
                           j["origin"].at("files").get<std::map<std::string, std::string>>()};
    if (j.contains("tensor_parallel")) {
      const Json& parallel = j["tensor_parallel"];
      manifest.tensor_parallel = RankOfModel{whole(parallel.at("ranks")), whole(parallel.at("rank")),
                                             whole(parallel.at("bias_rank"))};
      const auto& [ranks, rank, bias_rank] = *manifest.tensor_parallel;
      if (rank < 0 || rank >= ranks) throw malformed(fmt::format("there is no rank {} of {}", rank, ranks));
    }
    for (const ManifestLayer& layer : manifest.layers) check_sizes(layer);
    // The hash shows damage; this shows what was never written here: unknown keys, numbers that do not fit.
    if (serialize(manifest) != text) throw malformed("not as marlin-pack writes it");
    return manifest;
  } catch (const nlohmann::json::exception& e) {
    throw malformed(e.what());
  }
}

Manifest read_manifest(const std::filesystem::path& directory) {
  const auto path = directory / kManifestName;
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw Error{ErrorKind::bad_input,
                fmt::format("{}: no {} here; only artifacts that marlin-pack wrote can be verified",
                            directory.string(), kManifestName)};
  return within("file " + path.string(), [&] {
    return parse_manifest({std::istreambuf_iterator<char>(in), {}});
  });
}

}  // namespace mpk
