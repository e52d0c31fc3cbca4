// marlin_pack.json. Mutations spoil its hash of itself, so the target also sets that right (and the version,
// so that seeds do not age) and parses again.

#include "packer/manifest.hpp"

#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "packer/io/json_file.hpp"
#include "packer/io/sha256.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace mpk;

namespace {

void parse(const std::string& text) {
  fuzz::succeeds([&] {
    const Manifest manifest = parse_manifest(text);
    fuzz::require(serialize(manifest) == text, "a manifest is what serialize() writes");
    for (const ManifestLayer& layer : manifest.layers)
      fuzz::require(layer.k.value > 0 && layer.n.value > 0 && layer.scheme.groups(layer.k).value > 0,
                    "layers have sizes");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text{fuzz::text_of(data, size)};
  parse(text);
  if (!fuzz::succeeds([&] { parse_json(text); })) return 0;  // deeper than dump() may go
  auto json = nlohmann::ordered_json::parse(text);
  if (!json.is_object()) return 0;
  static const auto kVersion = nlohmann::ordered_json::parse(serialize({}))["manifest_version"];
  json["manifest_version"] = kVersion;
  json["manifest_sha256"] = std::string(64, '0');
  const std::string zeroed = json.dump(1) + "\n";
  json["manifest_sha256"] = sha256(std::as_bytes(std::span{zeroed}));
  parse(json.dump(1) + "\n");
  return 0;
}
