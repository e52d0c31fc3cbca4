#pragma once
// Tokenizers for tests: the golden bases, patched, in a scratch directory.

#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "model/tokenizer/tokenizer.hpp"
#include "packer/format/error.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/files.hpp"

namespace mpk::test {

using Json = nlohmann::json;

inline Json golden_json(const std::string& name) {
  return Json::parse(read_file(golden("tokenizer/" + name)));
}
inline Json base_tokenizer(const std::string& name) {
  return golden_json("bases/" + name + ".json");
}

/// Loads a tokenizer.json of this content.
inline std::unique_ptr<Tokenizer> load_json_text(const std::string& text) {
  const ScratchDir directory;
  write_file(directory / "tokenizer.json", text);
  return load_tokenizer(directory.path());
}
inline std::unique_ptr<Tokenizer> load_json(const Json& json) {
  return load_json_text(json.dump());
}

}  // namespace mpk::test
